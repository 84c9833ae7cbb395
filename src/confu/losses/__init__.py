"""Losses: the equations as free functions, and thin modules that hold a plan and a temperature."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
