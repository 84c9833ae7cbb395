"""The paper's measurements on one set of tiny trained models, through the command line."""

import json

import pytest
from typer.testing import CliRunner

from confu.cli import app
from confu.methods import FAIR
from confu_paper.experiments import av_mnist_variants
from confu_paper.experiments.run import Budget

PAIRS = {"image -> text", "text -> image", "audio -> text", "text -> audio", "image -> audio", "audio -> image"}
FUSED = {"audio+text -> image", "image+text -> audio", "image+audio -> text"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, av_mnist_data, tiny_av_mnist):
    """A function that reproduces a table from two seeds of every fair method, and the folder of the runs they share."""
    runs = tmp_path_factory.mktemp("runs")

    def reproduce(name, *more):
        file = runs / f"{name}.json"
        arguments = ["reproduce", name, "--on", "av-mnist", "--size", "smoke", "--seeds", 2, "--data", av_mnist_data]
        arguments += ["--runs", runs, "--json", file, "--no-progress", *more]
        result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(file.read_text())["tables"]

    return reproduce, runs


def test_table2_answers_what_each_method_can(trained):
    tables = trained[0]("table2")
    rows = tables["table2"]["rows"]
    assert set(rows["confu"]) == set(rows["gram"]) == PAIRS | FUSED | {"mean 1 -> 1", "mean 2 -> 1"}
    assert set(rows["symile"]) == set(rows["triangle"]) == FUSED | {"mean 2 -> 1"}
    assert set(rows["tri-clip"]) == PAIRS | {"mean 1 -> 1"}
    assert set(rows["clip"]) == PAIRS - {"image -> audio", "audio -> image"}
    mean = sum(rows["confu"][pair]["mean"] for pair in PAIRS) / len(PAIRS)
    assert rows["confu"]["mean 1 -> 1"]["mean"] == pytest.approx(mean)
    assert rows["confu"]["image -> text"]["num_seeds"] == 2
    # Other data than the paper's: its numbers stand in a table of their own and beside none of ours.
    assert all(cell["published"] is None for cells in rows.values() for cell in cells.values())
    assert tables["table2-paper"]["rows"]["confu, mosi"]["vision+audio -> text, recall@10"]["mean"] == 20.5


def test_noise_changes_only_queries_of_its_modality(trained):
    rows = trained[0]("table9", "--snr", "0,-20")["table9"]["rows"]
    assert set(rows["confu (A)"]) == {"clean", "image 0 dB", "image -20 dB", "audio 0 dB", "audio -20 dB"}
    assert rows["confu (A)"]["image -20 dB"] == rows["confu (A)"]["clean"]
    assert rows["confu (V)"]["audio -20 dB"] == rows["confu (V)"]["clean"]
    assert set(rows["clip (V)"]) == {"clean", "image 0 dB", "image -20 dB"}
    assert {label for label in rows if "symile" in label} == {"symile (A+V)"}


def test_finished_measurements_are_read_and_not_made_again(trained):
    reproduce, runs = trained
    reproduce("table9", "--snr", "0,-20")
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("noise.json")}
    assert len(before) == 2 * (len(FAIR) + 1)  # CLIP is two models
    reproduce("table6", "--snr", "0,-20")
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("noise.json")} == before
    reproduce("table6", "--snr", "5", "--methods", "clip")
    changed = [path for path in runs.rglob("noise.json") if path.stat().st_mtime_ns != before[path]]
    assert len(changed) == 2 * 2


def test_corruptions_with_a_missing_modality(trained):
    rows = trained[0]("corruptions")["corruptions"]["rows"]
    assert {"half of image missing", "half of audio missing"} == set(rows["confu (what is there)"])
    assert "symile (what is there)" not in rows  # it has no answer from one modality
    assert rows["confu (A)"]["half of image missing"] == rows["confu (A)"]["clean"]


def test_overlap_adds_up(trained):
    tables = trained[0]("fig5")
    rows = tables["fig5"]["rows"]
    assert set(rows) == {"tri-clip", "gram", "confu"}
    assert set(rows["confu"]) == {"A+V only", "A only", "V only", "A+V & A", "A+V & V", "A & V", "all", "none"}
    for cells in (*rows.values(), *tables["fig5-confu"]["rows"].values()):
        assert sum(cell["mean"] for cell in cells.values()) == pytest.approx(100)


def test_linear_probe_reads_all_embeddings_but_the_label(trained):
    rows = trained[0]("table3")["table3"]["rows"]
    assert set(rows["confu"]) == {"V", "A", "A+V", "concat(image, audio)", "concat(image, audio, image+audio)"}
    assert set(rows["symile"]) == {"V", "A", "concat(image, audio)"}
    assert set(rows["clip"]) == {"V", "A"}


def test_few_shot_with_too_few_rows_is_an_error(trained):
    # The generated set has fewer validation rows of a digit than 16.
    with pytest.raises(ValueError, match="16 shots"):
        trained[0]("fig4")


def test_gaps_compare_ways_that_are_one_where_nothing_is_missing(trained):
    rows = trained[0]("gaps", "--shares", "0,0.3", "--seeds", "1", "--limit", "300")["gaps"]["rows"]
    assert set(rows) == {f"{share}% missing, {way}" for share in (0, 30) for way in av_mnist_variants.WAYS}
    assert rows["0% missing, masks"] == rows["0% missing, drop"] == rows["0% missing, zeros"]
    assert set(rows["30% missing, masks"]) == {"A", "V", "A+V", "mean(A, V)"}
    assert (trained[1] / "tables" / "smoke" / "gaps.png").is_file()
    trains = {
        way: json.loads((trained[1] / "av-mnist-gaps" / "smoke" / f"{way}0.3-n300-s0" / "settings.json").read_text())
        for way in ("masks", "drop")
    }
    assert trains["drop"]["gaps"] == {"share": 0.3, "way": "drop", "seed": 0}


def test_gaps_encode_as_many_inputs_in_each_way(av_mnist_data):
    """With 70 % of the rows whole a row has 2.7 inputs for masks, and 3 for the others."""
    ways = ("masks", "drop")
    runs = {way: av_mnist_variants.gap_run(av_mnist_data, 0.3, way, budget=Budget("small")) for way in ways}
    steps = {way: run.train.steps_per_epoch for way, run in runs.items()}
    assert steps["masks"] * 2.7 == pytest.approx(steps["drop"] * 3, rel=0.01)


def test_false_negatives_compare_what_equal_captions_are(trained, monkeypatch):
    monkeypatch.setattr(av_mnist_variants, "CAPTIONS", 4)
    rows = trained[0]("false-negatives", "--seeds", "1")["false-negatives"]["rows"]
    assert list(rows) == ["negatives", "positives", "excluded", "equal-positives", "equal-excluded", "unique"]
    assert all(set(cells) == {"A", "V", "A+V", "mean(A, V)"} for cells in rows.values())
