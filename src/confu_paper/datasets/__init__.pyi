from .av_mnist import load_av_mnist
from .av_mnist_build import build_av_mnist
from .spoken_digits import (
    DigitSources,
    digit_captions,
    digit_prompt_dataset,
    digit_prompts,
    digit_sources,
    digit_vocabulary,
    digits,
)
from .xor_task import all_codes, xor, xor_candidates, xor_ceiling

__all__ = [
    "DigitSources",
    "all_codes",
    "build_av_mnist",
    "digit_captions",
    "digit_prompt_dataset",
    "digit_prompts",
    "digit_sources",
    "digit_vocabulary",
    "digits",
    "load_av_mnist",
    "xor",
    "xor_candidates",
    "xor_ceiling",
]
