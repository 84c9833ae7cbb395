from .build import build_encoder, input_sizes, settings_of, sized_by_inputs
from .conv import ConvEncoder
from .custom import CustomEncoder
from .efficientnet_lite import EfficientNetLite0Encoder
from .frames import FramesEncoder
from .hub import TransformersEncoder
from .huggingface import BertEncoder, ResNetEncoder
from .mlp import MLPEncoder
from .registry import (
    ENCODERS,
    EncoderRow,
    custom_functions,
    encoder_for,
    encoder_names,
    encoder_row,
    proposed_encoder,
)
from .sequence import SequenceEncoder
from .speech import SpeechEncoder
from .tokens import TokenEncoder

__all__ = [
    "ENCODERS",
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
    "input_sizes",
    "proposed_encoder",
    "settings_of",
    "sized_by_inputs",
]
