from .build import build_encoder, input_sizes, settings_of
from .conv import ConvEncoder
from .efficientnet_lite import EfficientNetLite0Encoder
from .hub import TransformersEncoder
from .mlp import MLPEncoder
from .pretrained import features_fingerprint, frozen_features
from .registry import (
    ENCODERS,
    EncoderRow,
    custom_functions,
    encoder_for,
    encoder_names,
    encoder_row,
    proposed_encoder,
)
from .resnet_bert import BertEncoder, ResNetEncoder
from .speech import SpeechEncoder
from .transformer import BagEncoder, SequenceEncoder, TokenEncoder
from .wrappers import CustomEncoder, FramesEncoder

__all__ = [
    "ENCODERS",
    "BagEncoder",
    "BertEncoder",
    "ConvEncoder",
    "CustomEncoder",
    "EfficientNetLite0Encoder",
    "EncoderRow",
    "FramesEncoder",
    "MLPEncoder",
    "ResNetEncoder",
    "SequenceEncoder",
    "SpeechEncoder",
    "TokenEncoder",
    "TransformersEncoder",
    "build_encoder",
    "custom_functions",
    "encoder_for",
    "encoder_names",
    "encoder_row",
    "features_fingerprint",
    "frozen_features",
    "input_sizes",
    "proposed_encoder",
    "settings_of",
]
