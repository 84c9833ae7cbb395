"""One item has one embedding: alone, in any batch, by `encode`, `embed`, over HTTP and in ONNX."""

import io

import numpy as np
import onnxruntime
import pytest
import torch

from confu.inference.embedding import embed
from confu.inference.onnx import export_onnx
from confu.inference.reading import collate
from confu.plan import Subset
from confu.types import Batch
from search.tiny_collection import COLOURS, PITCHES

from .sending import png, wav

CLOSE = 1e-6
BOTH = Subset("image", "audio")


def test_an_item_has_one_embedding_however_it_is_asked(collection, client):
    made = collection.embedder
    files = {
        "image": [png(colour, seed=seed) for seed, colour in enumerate(COLOURS)],
        "audio": [wav(pitch, 0.2 + 0.1 * seed, seed) for seed, pitch in enumerate(PITCHES)],
    }
    rows = range(len(files["image"]))
    expected = torch.cat([made.encode({name: [column[row]] for name, column in files.items()}).vectors for row in rows])

    def check(vectors):
        assert (torch.as_tensor(vectors) - expected).abs().max() < CLOSE

    for size in (2, 3, 64):
        check(made.encode(files, batch_size=size, workers=2).vectors)
    order = [2, 0, 3, 1, 2]
    shuffled = made.encode({name: [column[row] for row in order] for name, column in files.items()}).vectors
    assert (shuffled - expected[order]).abs().max() < CLOSE
    check(made.encode({name: list(map(io.BytesIO, column)) for name, column in files.items()}).vectors)

    items = {name: [made.readers[name].read(one) for one in column] for name, column in files.items()}
    batch = Batch({name: collate(made.readers[name], column) for name, column in items.items()}, list(map(str, rows)))
    check(embed(made.model, [batch], [BOTH])[BOTH])

    answers = [client.post("/v1/embed", files={name: column[row] for name, column in files.items()}) for row in rows]
    check([answer.json()["vector"] for answer in answers])
    check([collection.embed({name: column[row] for name, column in files.items()}).tolist() for row in rows])


@pytest.mark.heavy
def test_onnx_gives_the_same_alone_and_in_a_batch(collection, tmp_path):
    made = collection.embedder
    files = {"image": [png(seed=seed) for seed in range(3)], "audio": [wav(seed=seed) for seed in range(3)]}
    expected = made.encode(files).vectors.numpy()
    export_onnx(made, tmp_path, subsets=[BOTH])
    session = onnxruntime.InferenceSession(tmp_path / f"{BOTH}.onnx")
    inputs = {
        name: made.readers[name].collate([made.readers[name].read(one) for one in column]).numpy()
        for name, column in files.items()
    }
    assert np.abs(session.run(None, inputs)[0] - expected).max() < CLOSE
    for row in range(3):
        alone = session.run(None, {name: one[row : row + 1] for name, one in inputs.items()})[0]
        assert np.abs(alone - expected[row]).max() < CLOSE
