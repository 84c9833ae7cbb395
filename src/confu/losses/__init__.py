"""Losses: thin objects that hold a temperature and a plan, and call the functions of `confu.functional`."""

from confu.losses.base import LossOutput
from confu.losses.clip import CLIPLoss
from confu.losses.contrastive_fusion import ConFuLoss
from confu.losses.gram import GRAMLoss
from confu.losses.symile import SymileLoss
from confu.losses.triangle import TRIANGLELoss

__all__ = ["CLIPLoss", "ConFuLoss", "GRAMLoss", "LossOutput", "SymileLoss", "TRIANGLELoss"]
