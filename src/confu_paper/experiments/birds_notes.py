"""What stands beside and below the tables of birds: the paper's numbers, and how ours were made."""

from confu_paper.experiments.birds_data import BirdMML
from confu_paper.experiments.birds_rows import EIGHT
from confu_paper.experiments.birds_scales import Size
from confu_paper.experiments.published import Value, published

PAIRED = {"afresh": "afresh in every batch", "fixed": "as they are listed"}


def bird_numbers(name: str, frames: str) -> dict[str, dict[str, Value]]:
    """The paper's zero-shot accuracies by method and query; none of CUB-200-2011."""
    found: dict[str, dict[str, Value]] = {}
    if name != "cub200":
        for one in published("table4" if frames == "eight" else "table5", name):
            found.setdefault(one.method, {})[one.query] = one.value
    return found


def bird_notes(
    name: str, size: Size, limit: int | None, epochs: int | None, frames: str, data: BirdMML
) -> tuple[str, ...]:
    """What every table on these rows must say; arguments as for `bird_benchmark`."""
    scale = data.scale
    train = scale.train
    seen = {
        "eight": f"the mean embedding of {EIGHT} frames of a video, renormalised (for TRIANGLE too, unlike the "
        "released code), with all of its sound",
        "single": "frames at 0.5, 1, ... 9.5 s, each with all of the video's sound; the mean over frames",
    }
    notes = [
        f"trained on Bird-MML, size {size}: {epochs or train.epochs} epochs, batch {train.batch_size}, learning rate "
        f"{train.lr:g}, the last epoch; photos, sounds and captions of a species paired {PAIRED[data.pairing]}",
        f"{scale.held_out} rows of each species are held out from training for validation, as many for a test on "
        "Bird-MML itself; the paper trains on all",
        "photos of birds; prompts are the bare names, of which Bird-MML has none of most species"
        if name == "cub200"
        else seen[frames] + "; a video without sound is left out where sound is asked",
        "rows of both splits of the data set, as in the released code",
    ]
    if size != "paper":
        notes.append(
            "paper: two ResNet-50 and BERT, 512 dimensions, 100 epochs, learning rate 1e-4; here small encoders"
        )
    if size == "smoke":
        notes.append("size smoke shows that everything runs: its numbers mean little, and are not comparable")
    if scale.clips is not None:
        notes.append(f"evaluated on {scale.clips} rows of each species only: not comparable")
    if limit is not None:
        notes.append(f"trained on {limit} rows only: not comparable")
    return tuple(notes)
