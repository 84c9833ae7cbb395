"""Losses: thin objects that hold a temperature and a plan, and call the functions of `confu.functional`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
