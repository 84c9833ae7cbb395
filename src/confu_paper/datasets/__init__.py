"""Ready data sets, each a function that returns its `Splits`; their registrations are in `registry`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
