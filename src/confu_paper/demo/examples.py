"""Examples to ask the demo's index with: a picture and a sound that are understood only together."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.data import Splits
from confu.files import written_whole
from confu.index import Index
from confu.inference import Embedder
from confu.plan import Subset
from confu_paper.datasets import DigitSources
from confu_paper.datasets.digit_captions import DIGIT_WORDS
from confu_paper.demo.files import embedded, files_of
from confu_paper.demo.index import INDEXED

CANDIDATES, EXAMPLES = 400, 3
IMAGE, AUDIO, TEXT, BOTH = Subset("image"), Subset("audio"), Subset("text"), Subset("image", "audio")


@dataclass(frozen=True)
class Example:
    """A picture and a sound of one digit, each of which is taken for another digit if it is alone.

    Attributes:
        picture: its file.
        sound: its file.
        taken_for: what the nearest caption says: of the picture, of the sound, of both.
    """

    picture: Path
    sound: Path
    taken_for: tuple[str, str, str]


def make_examples(
    folder: Path, index: Path, embedder: Embedder, splits: Splits, sources: DigitSources, seed: int
) -> list[Example]:
    """Write pictures and sounds that are not in the index, and that show what both together find.

    Of the test rows after those of the index, the ones are taken in which the caption nearest to the picture is of a
    wrong digit, the one nearest to the sound too, and the one nearest to both of the right one, each by the widest
    margin; one of a digit.

    Args:
        folder: where; other files in it stay.
        index: whose captions are searched.
        embedder: the model with its readers.
        splits: the data of the demo.
        sources: what lies behind them.
        seed: of the sounds' noise.

    Returns:
        at most three; fewer, down to none, of a model that has learnt little.
    """
    files = files_of(splits, sources, range(INDEXED, INDEXED + CANDIDATES), seed + 1)
    table = embedded(embedder, files, [str(row) for row in range(CANDIDATES)])
    with Index.open(index) as opened:
        stored = opened.fetch(list(opened.ids()))
    digits = torch.tensor(stored.metadata["digit"].to_pylist())
    best = {subset: best_cosines(table[subset], stored.table[TEXT], digits) for subset in (IMAGE, AUDIO, BOTH)}
    lead = {subset: lead_of(cosines, files.labels) for subset, cosines in best.items()}
    margin = torch.stack([-lead[IMAGE], -lead[AUDIO], lead[BOTH]]).amin(0)
    chosen: dict[int, int] = {}
    for row in margin.argsort(descending=True).tolist():
        if margin[row] > 0 and len(chosen) < EXAMPLES:
            chosen.setdefault(int(files.labels[row]), row)
    found = []
    for digit, row in chosen.items():
        picture, sound = (folder / f"{DIGIT_WORDS[digit]}{suffix}" for suffix in (".png", ".wav"))
        for file, content in ((picture, files.pictures[row]), (sound, files.sounds[row])):
            with written_whole(file) as temporary:
                temporary.write_bytes(content)
        image, audio, both = (DIGIT_WORDS[int(best[subset][row].argmax())] for subset in (IMAGE, AUDIO, BOTH))
        found.append(Example(picture, sound, (image, audio, both)))
    return found


def best_cosines(
    queries: Float[Tensor, "n dim"], items: Float[Tensor, "items dim"], classes: Int[Tensor, " items"]
) -> Float[Tensor, "n 10"]:
    """The cosine of each query with the nearest item of each digit; -2 where there is none.

    >>> best_cosines(torch.eye(2), torch.eye(2), torch.tensor([4, 7]))[:, [4, 5, 7]].tolist()
    [[1.0, -2.0, 0.0], [0.0, -2.0, 1.0]]
    """
    cosines = queries @ items.T
    none = cosines.new_full((len(queries), 1), -2)
    return torch.stack([torch.cat([cosines[:, classes == digit], none], 1).amax(1) for digit in range(10)], dim=1)


def lead_of(cosines: Float[Tensor, "n 10"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """By how much the right digit is nearer than the nearest wrong one; below zero where it is not.

    >>> lead_of(torch.eye(10)[:1], torch.tensor([0])).item(), lead_of(torch.eye(10)[:1], torch.tensor([3])).item()
    (1.0, -1.0)
    """
    right = cosines.gather(1, labels[:, None])[:, 0]
    return right - cosines.scatter(1, labels[:, None], -2).amax(1)
