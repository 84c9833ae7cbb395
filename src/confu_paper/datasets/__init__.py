"""Ready data sets, each a function that returns its `Splits`."""

from confu_paper.datasets.av_mnist import load_av_mnist
from confu_paper.datasets.av_mnist_build import build_av_mnist
from confu_paper.datasets.digit_captions import digit_captions, digit_prompt_dataset, digit_prompts, digit_vocabulary
from confu_paper.datasets.digits import DigitSources, digit_sources, digits
from confu_paper.datasets.xor import all_codes, xor, xor_candidates, xor_ceiling

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
