"""Trainings of few rows, of one row more than fills the batches, and of few captions that repeat."""

import math

import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, TensorColumn, WordVocabulary
from confu.data.dataset import RowsOf
from confu.methods import build_objective
from confu.nn.encoders import build_encoder
from confu.training import TrainSettings, fit
from confu.training.log import read_log
from training.cached_parts import NAMES, Normed
from training.several_processes import rows

MLP = {"kind": "mlp", "in_dim": 6, "hidden_dims": [8], "out_dim": 8}


@pytest.mark.parametrize("count", [2, 9, 17], ids=["two", "batch + 1", "2 batches + 1"])
def test_any_number_of_rows_is_trained_and_selected(count, tmp_path):
    torch.manual_seed(0)
    names = NAMES
    module = build_objective("confu", names, {name: Normed(norm=True) for name in names}, dim=8)
    data = rows(count, 1, gaps=0)
    settings = TrainSettings(epochs=2, batch_size=min(8, count), lr=1e-2, log_every=1, select="retrieval")
    fit(module, data, data, settings, tmp_path, progress=False)
    assert all(
        math.isfinite(record["total"]) for kind in ("train", "validation") for record in read_log(tmp_path, kind)
    )
    assert len(read_log(tmp_path, "validation")) == 2


def test_three_captions_in_many_rows_are_encoded_once_a_batch(tmp_path):
    torch.manual_seed(0)
    captions, count = ["a red bird", "a blue bird", "a green bird"], 10_000
    which = torch.arange(count) % 3
    tokenizer = WordVocabulary.from_texts(captions)
    values = torch.eye(6)[which] + 0.1 * torch.randn(count, 6)
    columns = {"image": TensorColumn(values), "text": CaptionColumn(captions, which, tokenizer)}
    data = ArrayDataset(columns)
    assert len(data.batch(torch.arange(256)).inputs["text"].values["input_ids"]) == 3
    tokens = {"kind": "bag", "vocab_size": len(tokenizer), "width": 8, "out_dim": 8}
    encoders = {"image": build_encoder(MLP), "text": build_encoder(tokens)}
    module = build_objective("clip", ("image", "text"), encoders, dim=8, equal_inputs="positives")
    settings = TrainSettings(epochs=1, steps_per_epoch=40, batch_size=256, lr=1e-2, log_every=1)
    fit(module, data, RowsOf(data, torch.arange(300)), settings, tmp_path, progress=False)
    losses = [record["total"] for record in read_log(tmp_path, "train")]
    # Of 256 rows some 85 have each caption: with equal ones as positives nothing below log(85) can be reached.
    assert losses[0] > 5 and losses[-1] == pytest.approx(math.log(256 / 3), abs=0.15)
