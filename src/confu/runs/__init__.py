"""From a table of one's own to a trained model: run files, checks, training, and opening a run again."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
