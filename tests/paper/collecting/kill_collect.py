"""As a script, `python kill_collect.py FOLDER MODELS ASKED`: the caption steps of a collection, a line an item.

Every prompt that a model gets is also written to a file, so that a test sees what was asked twice.
"""

import sys
from pathlib import Path
from zlib import crc32

import pytest
import torch

from confu_paper.collecting.bird_mml import collect_bird_mml
from confu_paper.collecting.captions import Captioner
from confu_paper.collecting.jobs import Models
from confu_paper.collecting.language import LanguageModel
from confu_paper.collecting.steps import StepLog

STEPS = ("image_captions", "summaries", "captions", "manifest")
SETTINGS = {"per_species": 5, "summaries": 4, "progress": False, "steps": STEPS}


def collect(folder: Path, models: Path, **settings) -> Path:
    """The caption steps on a folder with the models `blip` and `gemma`, two items at a time."""
    return collect_bird_mml(folder / "taxa.csv", folder, models=tiny(models), **{**SETTINGS, **settings})


def tiny(models: Path) -> Models:
    """Those of a folder, on the processor, two items at a time."""
    return Models(str(models / "blip"), str(models / "gemma"), "cpu", batch_size=2)


def noted(file: Path, patch: pytest.MonkeyPatch, most: int | None = None) -> None:
    """Write a line for every photo or prompt that a model gets, print one for every item; stop after `most` items."""
    patch.undo()
    describe, answer, add = Captioner.describe, LanguageModel.answer, StepLog.add

    def write(what: str) -> None:
        with file.open("a") as lines:
            lines.write(what + "\n")

    def described(self, pictures):
        found = describe(self, pictures)
        for picture in pictures:
            write(f"photo {crc32(picture.tobytes())}")
        return found

    def answered(self, prompts, seeds):
        found = answer(self, prompts, seeds)
        for seed in seeds:
            write(f"prompt {seed}")
        return found

    def added(self, key, record):
        add(self, key, record)
        print(key, flush=True)
        if len(self) == most:
            raise KeyboardInterrupt

    patch.setattr(Captioner, "describe", described)
    patch.setattr(LanguageModel, "answer", answered)
    patch.setattr(StepLog, "add", added)


if __name__ == "__main__":
    torch.set_num_threads(1)
    noted(Path(sys.argv[3]), pytest.MonkeyPatch())
    collect(Path(sys.argv[1]), Path(sys.argv[2]))
