"""The affect benchmarks end to end at their smallest, from pickles in the published layout to every table."""

import json
from dataclasses import replace

import pytest

from confu.methods import AS_RELEASED, FAIR
from confu.nn.encoders import build_encoder
from confu_paper.datasets.affect_build import build_affect
from confu_paper.experiments import affect
from confu_paper.experiments.affect import SCALES, affect_benchmark, affect_runs
from confu_paper.experiments.benchmark import Request
from confu_paper.experiments.run import Budget, execute
from confu_paper.protocols.ablation import PROBE, reproduce_lambda, reproduce_mask
from confu_paper.protocols.linear_probe import reproduce_linear_probe
from confu_paper.protocols.retrieval import reproduce_retrieval
from confu_paper.sweeps.numbers import validation_metrics, with_means
from paper.datasets.affect_fixtures import write_affect

SINGLES = {"audio -> vision", "text -> vision", "vision -> audio", "text -> audio", "vision -> text", "audio -> text"}
FUSED = {"audio+text -> vision", "vision+text -> audio", "vision+audio -> text"}
THREE = "concat(vision, audio, text)"
ALL = "concat(vision, audio, text, vision+audio, vision+text, audio+text)"
ROWS = {"train": 64, "valid": 24, "test": 24}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the manifests of three data sets."""
    root = tmp_path_factory.mktemp("affect")
    for name in ("mosi", "ur-funny", "mustard", "mosei"):
        build_affect(write_affect(root / "in" / f"{name}.pkl", name=name, rows=ROWS), name, root, progress=False)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def request_of(data, runs=None, methods=FAIR, seeds=(0,), **more):
    more = {"size": "smoke", "progress": False, **more}
    return Request(methods=methods, seeds=seeds, runs=runs or data, data=data, **more)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Narrow networks: a test checks the way, not the numbers."""
    scale = SCALES["smoke"]
    encoder = {**scale.encoder, "width": 10, "hidden_dim": 10}
    monkeypatch.setitem(SCALES, "smoke", replace(scale, encoder=encoder, dim=8))


def test_table2_stands_beside_the_published_numbers(data, runs):
    request = request_of(data, runs, seeds=(0, 1))
    outcome = reproduce_retrieval(affect_benchmark("mosi", request), request)
    rows = outcome.tables["retrieval"].rows
    assert set(rows["confu"]) == set(rows["gram"]) == SINGLES | FUSED | {"mean 1 -> 1", "mean 2 -> 1"}
    assert set(rows["symile"]) == set(rows["triangle"]) == FUSED | {"mean 2 -> 1"}
    assert set(rows["tri-clip"]) == SINGLES | {"mean 1 -> 1"}
    assert set(rows["clip"]) == SINGLES
    assert rows["confu"]["vision+audio -> text"].published == (20.5, 2.9)
    assert rows["tri-clip"]["mean 1 -> 1"].published == (22.6, None)
    assert rows["clip"]["audio -> vision"].published is None
    assert rows["confu"]["audio -> text"].num_seeds == 2
    mean = sum(rows["confu"][pair].mean for pair in SINGLES) / 6
    assert rows["confu"]["mean 1 -> 1"].mean == pytest.approx(mean)


def test_table3_probes_fused_embeddings_too(data, runs):
    request = request_of(data, runs, seeds=(0, 1))
    outcome = reproduce_linear_probe(affect_benchmark("mosi", request), request)
    rows = outcome.tables["linear-probe"].rows
    assert set(rows["confu"]) == {THREE, ALL}
    assert all(set(rows[method]) == {THREE} for method in ("tri-clip", "symile", "gram", "triangle"))
    assert set(rows["clip"]) == {"concat(vision, audio)", "concat(vision, text)", "concat(audio, text)"}
    assert rows["symile"][THREE].published == (67.5, 1.3)
    assert rows["confu"][ALL].published is None
    assert not list(runs.rglob("linear-probe.json"))  # the runs' own reports hold the probe


def test_table7_chooses_on_validation_rows(data, runs):
    request = request_of(data, runs)
    outcome = reproduce_lambda(affect_benchmark("mosi", request), request, lambdas=(0.1, 0.5))
    table = outcome.tables["lambda"]
    cells = {label.removesuffix(" *"): row for label, row in table.rows.items()}
    assert cells["fused_weight=0.1"]["test mean recall@10 1 -> 1"].published == (21.21, None)
    assert cells["fused_weight=0.5"]["test mean recall@10 2 -> 1"].published is None
    both = {
        label: sum(row[f"validation mean recall@10 {size} -> 1"].mean for size in (1, 2))
        for label, row in cells.items()
    }
    assert max(both, key=lambda label: both[label]) in table.notes[0]
    folder = next((runs / "mosi" / "smoke").glob("confu-fused_weight0.1*"))
    monitored = with_means(validation_metrics(folder))
    assert cells["fused_weight=0.1"]["validation mean recall@10 2 -> 1"].mean == pytest.approx(
        100 * monitored["mean recall@10 2 -> 1"]
    )


def test_table8_and_fig7_compare_masks_at_equal_settings(data, runs):
    request = request_of(data, runs)
    benchmark = affect_benchmark("mosi", request)
    outcome = reproduce_mask(benchmark, request, masks=(0.0, 0.3, 0.7), lambdas=(0.3, 0.5))
    table = outcome.tables["mask"]
    expected = {f"recall@10 {pair}" for pair in SINGLES | FUSED}
    assert set(table.rows) == expected | {"mean recall@10 1 -> 1", "mean recall@10 2 -> 1", PROBE}
    row = table.rows["recall@10 audio+text -> vision"]
    assert [row[column].published for column in table.columns] == [(16.73, 1.84), (22.24, 3.16), (5.51, None)]
    assert row["Δ"].mean == pytest.approx(row["with mask"].mean - row["without mask"].mean)
    assert "fused_weight=0.5 mask_ratio=0.3" in table.notes[0]
    assert "fused_weight=0.5 mask_ratio=0.7" in outcome.tables["mask-drop70"].notes[0]
    assert table.rows[PROBE]["without mask"].mean > 1  # in percent
    assert list(outcome.figures) == ["mask"]


@pytest.mark.parametrize("name", ["ur-funny", "mustard", "mosei"])
def test_the_other_sets_run_too(name, data, tmp_path):
    request = request_of(data, tmp_path, ["confu"], limit=40, epochs=1)
    rows = reproduce_retrieval(affect_benchmark(name, request), request).tables["retrieval"].rows
    assert (rows["confu"]["mean 1 -> 1"].published is None) == (name == "mosei")
    folder = tmp_path / name / "smoke" / "confu-n40-e1-s0"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["limits"] == [40, 256, 256]
    assert settings["encoders"]["vision"]["in_dim"] == (35 if name == "mosei" else 371)


@pytest.mark.parametrize("method", [name for name in AS_RELEASED if name.endswith("released")])
def test_released_variants_read_the_last_of_fifty_steps(method, data, tmp_path):
    (run,) = affect_runs(method, "mosi", data, budget=Budget("smoke", epochs=1), reading="released")
    rows = execute(run, tmp_path, progress=False).rows
    assert "recall@10" in {row.metric for row in rows}
    encoder = run.description["encoders"]["audio"]
    assert (encoder["pooling"], encoder["positions"]) == ("last", False)
    values = run.splits().train.batch(run.splits().train.labels[:2] * 0).inputs["audio"].values
    assert values.shape == (2, 50, 5)
    assert "released-reading" in run.name


def test_rows_that_lack_a_modality_are_used_where_they_can_be(tmp_path):
    from paper.datasets.affect_fixtures import affect_content

    content = affect_content("mosi", rows=ROWS)
    for split in content:
        content[split]["audio"][::3, -1, 0] = float("nan")
    build_affect(write_affect(tmp_path / "mosi.pkl", content), "mosi", tmp_path, progress=False)
    (run,) = affect_runs("confu", "mosi", tmp_path, budget=Budget("smoke", epochs=1))
    counts = {(row.query, row.target): row.count for row in execute(run, tmp_path / "runs", progress=False).rows}
    assert counts["vision", "text"] == 24 and counts["vision+audio", "text"] == 16
    assert counts[THREE, "label"] == 16


def test_paper_size_is_the_papers():
    scale = SCALES["paper"]
    assert (scale.train.epochs, scale.train.batch_size, scale.train.lr, scale.dim) == (100, 128, 5e-5, 256)
    encoder = build_encoder({"kind": "sequence", "in_dim": 371, **scale.encoder})
    assert (encoder.settings["width"], encoder.settings["heads"], encoder.settings["layers"]) == (300, 5, 5)
    assert scale.limits == (None, None, None)


def test_the_benchmark_has_no_classes_to_read(data):
    benchmark = affect_benchmark("mosi", request_of(data))
    assert (benchmark.target, benchmark.score) == (None, "recall@10")
    with pytest.raises(ValueError, match="classes of mosi are not said by any of its modalities"):
        _ = benchmark.classes
    assert affect.READINGS.keys() == {"masked", "released"}


def test_what_is_missing_is_said_before_anything_trains(tmp_path, data):
    with pytest.raises(ValueError, match=r"mosi\.parquet: no such file.*\n  confu data affect FILE.pkl --name mosi"):
        affect_benchmark("mosi", request_of(tmp_path))
    with pytest.raises(ValueError, match="did you mean 'mustard'"):
        affect_benchmark("mustart", request_of(data))
