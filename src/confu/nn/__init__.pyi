from .encoders import ENCODERS, build_encoder
from .feature_mask import FeatureMask
from .fusion import FUSIONS, BilinearFusion, MLPFusion, ReleasedFusion, build_fusion
from .set_fusion import SetFusion
from .temperature import Temperature

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
