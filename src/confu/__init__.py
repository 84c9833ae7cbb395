"""confu: align three or more kinds of data in one embedding space by contrastive fusion (arXiv 2511.21331)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
