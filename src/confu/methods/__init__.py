"""The methods that are compared: which loss trains them, which plan they follow, and how they compare embeddings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
