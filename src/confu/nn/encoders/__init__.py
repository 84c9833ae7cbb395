"""Encoders by kind: each maps one modality's inputs to features (batch, out_dim); `registry` lists them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
