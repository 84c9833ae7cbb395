"""Use a trained model: embed a data set, or single items of whatever modalities they have."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
