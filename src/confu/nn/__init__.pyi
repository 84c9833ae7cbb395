from .encoders import ENCODERS, build_encoder
from .fusion import FUSIONS, BilinearFusion, FeatureMask, MLPFusion, ReleasedFusion, SetFusion, build_fusion
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
