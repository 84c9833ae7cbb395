"""Models: encoders, projections and fusion networks of a plan, and how they are saved."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
