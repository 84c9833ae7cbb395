"""Building blocks with weights: encoders, fusion networks, the temperature."""

from confu.nn.encoders import ENCODERS, build_encoder
from confu.nn.feature_mask import FeatureMask
from confu.nn.fusion import FUSIONS, BilinearFusion, MLPFusion, ReleasedFusion, build_fusion
from confu.nn.set_fusion import SetFusion
from confu.nn.temperature import Temperature

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "BilinearFusion",
    "FeatureMask",
    "MLPFusion",
    "ReleasedFusion",
    "SetFusion",
    "Temperature",
    "build_encoder",
    "build_fusion",
]
