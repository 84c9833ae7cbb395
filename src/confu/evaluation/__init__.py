"""Measure stored embedding tables and report what was found; nothing here needs a model or a GPU."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
