"""Losses: thin objects that hold a temperature and a plan, and call the functions of `confu.functional`."""

from confu.losses.base import LossOutput
from confu.losses.clip import CLIPLoss
from confu.losses.contrastive_fusion import ConFuLoss

__all__ = ["CLIPLoss", "ConFuLoss", "LossOutput"]
