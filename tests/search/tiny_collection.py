"""A small trained collection: pictures of a colour, sounds of a pitch, captions that name both, and sensors.

A picture alone tells the colour and a sound alone the pitch, so that only both together find the right caption.
"""

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
import torch
from PIL import Image

from confu.data.readers import build_reader
from confu.embeddings import EmbeddingTable
from confu.index import About, Index
from confu.index.items import Items
from confu.inference import Embedder
from confu.losses import ConFuLoss
from confu.models import MultimodalModel
from confu.nn.encoders import build_encoder
from confu.plan import Plan, Subset
from confu.search import Collection
from confu.types import Batch, Inputs

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220), "yellow": (220, 210, 50)}
PITCHES = {"deep": 150, "low": 300, "high": 700, "shrill": 1500}
RATE, SECONDS = 8000, 0.4
PAIRS = tuple(product(COLOURS, PITCHES))
WORDS = sorted({*COLOURS, *PITCHES, "a", "bird", "with", "call", "and"})
READERS = {
    "image": {"kind": "image", "size": 8},
    "audio": {"kind": "mel", "rate": RATE, "seconds": SECONDS, "mels": 16, "window": 256, "hop": 128},
    "text": {"kind": "words", "vocabulary": WORDS},
    "sensor": {"kind": "vector", "dim": 4},
}
_CONV = {"kind": "conv", "channels": [8, 16], "out_dim": 16, "norm": "none"}
ENCODERS = {
    "image": {**_CONV, "in_channels": 3},
    "audio": {**_CONV, "in_channels": 1, "pooling": "max-time", "height": 16},
    "text": {"kind": "tokens", "vocab_size": len(WORDS) + 3, "width": 16, "heads": 2, "layers": 1},
    "sensor": {"kind": "mlp", "in_dim": 4, "hidden_dims": [32], "out_dim": 16},
}
TERMS = ("image ~ text", "audio ~ text", "sensor ~ text", "image+audio ~ text", "image+audio ~ sensor")
CLASSES = tuple(f"{colour} {pitch}" for colour, pitch in PAIRS)
TEMPERATURE = 0.07


def picture(colour: str, draw: np.random.Generator, size: int = 16) -> np.ndarray:
    """A square of a colour with noise, (size, size, 3)."""
    return np.clip(np.array(COLOURS[colour]) + draw.normal(0, 25, (size, size, 3)), 0, 255).astype(np.uint8)


def tone(pitch: str, draw: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
    """A tone with noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    hertz = PITCHES[pitch] * draw.uniform(0.95, 1.05)
    return (0.5 * np.sin(2 * np.pi * hertz * time) + draw.normal(0, 0.01, len(time))).astype(np.float32)


def caption(colour: str, pitch: str) -> str:
    """What both say together."""
    return f"a {colour} bird with a {pitch} call"


def sensor(colour: str, pitch: str, draw: np.random.Generator) -> np.ndarray:
    """Four numbers that tell both."""
    angles = np.pi / 2 * np.array([list(COLOURS).index(colour), list(PITCHES).index(pitch)])
    return (np.array([*np.cos(angles), *np.sin(angles)]) + draw.normal(0, 0.1, 4)).astype(np.float32)


def sources(seed: int, rounds: int = 1) -> dict[str, list]:
    """Every pair of colour and pitch, `rounds` times."""
    draw = np.random.default_rng(seed)
    pairs = PAIRS * rounds
    return {
        "image": [picture(colour, draw) for colour, _ in pairs],
        "audio": [(tone(pitch, draw), RATE) for _, pitch in pairs],
        "text": [caption(*pair) for pair in pairs],
        "sensor": [sensor(*pair, draw) for pair in pairs],
    }


@cache
def embedder() -> Embedder:
    """Trained for a few seconds; the same each time."""
    torch.manual_seed(0)
    plan = Plan.parse(TERMS, tuple(READERS))
    model = MultimodalModel(plan, {name: build_encoder(one) for name, one in ENCODERS.items()}, dim=16, fusion_dim=32)
    readers = {name: build_reader(one) for name, one in READERS.items()}
    given = sources(seed=1, rounds=4)
    items = {name: [readers[name].read(one) for one in column] for name, column in given.items()}
    loss, adam = ConFuLoss(plan, TEMPERATURE), torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    for step in range(160):
        # One of each pair: another of the same would be a false negative.
        first = len(PAIRS) * (step % 4)
        rows = torch.arange(len(PAIRS))
        inputs = {
            name: Inputs(readers[name].collate(column[first : first + len(PAIRS)]), rows)
            for name, column in items.items()
        }
        adam.zero_grad()
        loss(model(Batch(inputs, list(map(str, rows.tolist()))))).total.backward()
        adam.step()
    return Embedder(model, readers, CLASSES)


def write_collection(folder: Path, rounds: int = 3) -> Path:
    """A model folder, files of items and an index of them under `folder`; gives the index's folder.

    Item 0 has no sound and item 1 no picture; one id has characters that an address cannot hold as they are.
    """
    made = embedder()
    made.save_pretrained(folder / "model")
    files = folder / "files"
    files.mkdir(parents=True)
    given = sources(seed=2, rounds=rounds)
    ids = [f"item-{row:02d}" for row in range(len(given["text"]))]
    ids[2] = "dir/ä b?&#"
    media: dict[str, list[str | None]] = {"text": list(given["text"])}
    for row, (pixels, (samples, rate), numbers) in enumerate(zip(given["image"], given["audio"], given["sensor"])):
        Image.fromarray(pixels).save(files / f"{row}.png")
        soundfile.write(files / f"{row}.wav", samples, rate)
        np.save(files / f"{row}.npy", numbers)
    for name, ending in (("image", "png"), ("audio", "wav"), ("sensor", "npy")):
        media[name] = [str(files / f"{row}.{ending}") for row in range(len(ids))]
    media["audio"][0] = media["image"][1] = None
    columns = {name: [None if address is None else given[name][row] for row, address in enumerate(column)]
               for name, column in media.items()}  # fmt: skip
    vectors, complete = {}, {}
    for subset in made.subsets:
        rows = [row for row in range(len(ids)) if all(columns[name][row] is not None for name in subset)]
        vectors[subset] = torch.zeros(len(ids), made.dim)
        vectors[subset][rows] = made.encode({name: [columns[name][row] for row in rows] for name in subset}).vectors
        complete[subset] = torch.zeros(len(ids), dtype=torch.bool)
        complete[subset][rows] = True
    pairs = PAIRS * rounds
    metadata = pa.table({
        "label": [" ".join(pair) for pair in pairs],
        "colour": [colour for colour, _ in pairs],
        "hertz": [PITCHES[pitch] for _, pitch in pairs],
        "year": [None if row == 5 else 2000 + row % 25 for row in range(len(ids))],
        "loud": [row % 2 == 0 for row in range(len(ids))],
        "weight": [row / 7 for row in range(len(ids))],
    })  # fmt: skip
    kinds = {name: reader.modality_kind for name, reader in made.readers.items()}
    about = About(str((folder / "model").resolve()), made.parts.fingerprint(), made.dim, made.subsets, kinds)
    with Index.create(folder / "index", about) as index:
        index.add(Items(EmbeddingTable(ids, vectors, complete), metadata, media))
    return folder / "index"


def open_collection(folder: Path, rounds: int = 3) -> Collection:
    """Written and opened."""
    return Collection.open(write_collection(folder, rounds), temperature=TEMPERATURE)


def is_right(answer_id: str, ids: list[str], pair: tuple[str, str]) -> bool:
    """Whether a hit's caption is that of a pair; `ids` in the order in which they were written."""
    return PAIRS[ids.index(answer_id) % len(PAIRS)] == pair


def subset(text: str) -> Subset:
    return Subset.parse(text)
