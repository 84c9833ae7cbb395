"""Birds end to end on generated files in the published layouts: every table and figure, and the protocols by loops."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from confu import Subset
from confu.data.corruptions import GaussianNoise
from confu.embeddings import EmbeddingTable
from confu.inference import embed
from confu.methods import FAIR
from confu.models import load_model
from confu_paper.experiments import birds, birds_data
from confu_paper.experiments.benchmark import Request, zero_shot
from confu_paper.experiments.birds_rows import PixelNoise
from confu_paper.experiments.run import Budget, execute
from confu_paper.protocols.few_shot import reproduce_few_shot
from confu_paper.protocols.linear_probe import reproduce_linear_probe
from confu_paper.protocols.noise import reproduce_noise
from confu_paper.protocols.overlap import reproduce_overlap
from confu_paper.protocols.zero_shot import reproduce_zero_shot
from paper.datasets.bird_files import SPECIES
from paper.experiments.bird_sets import write_all, write_bird_mml, write_ssw60

A, V, AV = Subset("audio"), Subset("image"), Subset("image", "audio")
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("birds"))


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Batches that fit a few dozen rows."""
    scale = birds_data.SCALES["smoke"]
    train = scale.train.model_copy(update={"batch_size": 8, "epochs": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(birds_data.SCALES, "smoke", replace(scale, train=train))
        yield


def request_of(root, name, runs=None, methods=FAIR, size="smoke"):
    folders = {"data": root / name, "train_data": root / "bird-mml", "runs": runs or root / "runs"}
    return Request(size=size, methods=methods, seeds=(0,), progress=False, **folders)


def bench(root, name, frames="eight", size="smoke"):
    return birds.bird_benchmark(name, request_of(root, name, size=size), frames)


def measure(protocol, root, name, /, frames="eight", methods=FAIR, **more):
    """What a protocol finds, on the runs of `root`."""
    return protocol(bench(root, name, frames), request_of(root, name, methods=methods), **more)


@pytest.fixture(scope="module")
def runs(root):
    """The folder of the runs, of every method trained once."""
    measure(reproduce_zero_shot, root, "ssw60")
    return root / "runs"


def stored(runs):
    """When each file of a finished training and measurement was written."""
    return {
        path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.name in ("state.pt", "report.json") or
        path.suffix == ".parquet" or (path.suffix == ".json" and path.parent.parent.name == "smoke")
    }  # fmt: skip


@pytest.mark.parametrize(("name", "frames", "paper"), [
    ("ssw60", "eight", (71.44, None)), ("vb100", "eight", (18.1, None)), ("ssw60", "single", (65.5, 2.5)),
    ("vb100", "single", (16.4, 0.4)),
])  # fmt: skip
def test_tables_4_and_5_hold_what_each_method_can_answer(root, runs, name, frames, paper):
    trained = {path for path in stored(runs) if path.name == "state.pt"}
    outcome = measure(reproduce_zero_shot, root, name, frames, name="table")
    rows = outcome.tables["table"].rows
    assert {method: set(cells) for method, cells in rows.items()} == {
        "clip": {"A", "V"},
        "tri-clip": {"A", "V", "mean(A, V)"},
        "symile": {"A+V"},
        "gram": {"A", "V", "A+V"},
        "triangle": {"A+V"},
        "confu": {"A", "V", "A+V", "mean(A, V)"},
    }
    assert rows["confu"]["A+V"].published == paper
    assert {path for path in stored(runs) if path.name == "state.pt"} == trained, "models are shared by all sets"
    assert len(trained) == len(FAIR) + 1  # CLIP is two models


def test_photos_have_no_sound_and_names_that_were_never_trained(root, runs):
    outcome = measure(reproduce_zero_shot, root, "cub200")
    rows = outcome.tables["zero-shot"].rows
    assert {method for method, cells in rows.items() if cells} == {"clip", "tri-clip", "gram", "confu"}
    probes = measure(reproduce_few_shot, root, "cub200", name="fig13")
    assert set(probes.tables["fig13"].rows) == {f"{method} (V)" for method in FAIR}
    assert set(probes.figures) == {"fig13-image"}


def test_learned_classes_are_found_in_any_label_order(tmp_path, monkeypatch):
    write_bird_mml(tmp_path / "bird-mml", rows=16)
    write_ssw60(tmp_path / "ssw60", clips=3, own_sounds=True)
    scale = birds_data.SCALES["smoke"]
    train = scale.train.model_copy(update={"epochs": 20})
    monkeypatch.setitem(birds_data.SCALES, "smoke", replace(scale, train=train, per_species=None))
    outcome = measure(reproduce_zero_shot, tmp_path, "ssw60", methods=["confu"])
    assert outcome.tables["zero-shot"].rows["confu"]["A"].mean == 100


def test_eight_frames_embed_as_a_loop_over_frames(root, runs):
    benchmark = bench(root, "ssw60")
    for method in ("confu", "triangle"):
        (run,) = benchmark.runs(method, 0, {})
        model = load_model(runs / run.name / "last")
        (table,) = benchmark.rows.tables(model, runs / run.name)
        views = benchmark.rows.views
        assert list(table.ids) == list(views.clips) and len(table) == 9
        silent = table.ids.index("302")
        for subset in table.subsets:
            for clip in range(len(table)):
                singles = []
                for frame in range(8):
                    batch = views.data.batch(torch.tensor([8 * clip + frame]))
                    with torch.inference_mode():
                        singles.append(model(batch, [subset])[subset][0])
                expected = normalize(torch.stack(singles).mean(dim=0), dim=0)
                there = clip != silent or "audio" not in subset
                assert bool(table.complete[subset][clip]) == there
                if there:
                    assert torch.allclose(table[subset][clip], expected, atol=1e-5)


def test_single_frames_have_the_mean_and_deviation_of_a_loop(root, runs):
    benchmark = bench(root, "ssw60", "single")
    request = request_of(root, "ssw60", methods=["confu", "clip"])
    outcome = reproduce_zero_shot(benchmark, request, "table5")
    (run,) = benchmark.runs("confu", 0, {})
    model = load_model(runs / run.name / "last")
    target, prompts = benchmark.classes
    found = {"A": [], "V": [], "A+V": []}
    for frame in range(19):
        rows = torch.arange(9) * 19 + frame
        data = benchmark.rows.views.data
        picked = embed(model, data).select(rows)
        result = zero_shot(model, picked, prompts, target, [A, V, AV])
        for letter, query in zip(found, (A, V, AV)):
            found[letter].append(100 * next(row.value for row in result.rows if row.query == str(query)))
    cells = outcome.tables["table5"].rows["confu"]
    for letter, values in found.items():
        values = torch.tensor(values, dtype=torch.float64)
        assert cells[letter].mean == pytest.approx(float(values.mean()))
        assert cells[letter].std == (None if values.std() == 0 else pytest.approx(float(values.std())))
    assert outcome.tables["table5"].notes[0].endswith("over views of the same rows, the mean over seeds of each")
    assert outcome.tables["table5"].rows["clip"]["A"].std is None
    assert cells["A"].std is None  # the sound is whole whichever frame is seen
    assert len(list((runs / run.name).glob("ssw60-single-*/*.parquet"))) == 19
    audio = next(run for run in benchmark.runs("clip", 0, {}) if "audio" in run.name)
    assert len(list((runs / audio.name).glob("ssw60-single-*.parquet"))) == 1


def test_noise_of_tables_6_and_9_stands_beside_the_papers(root, runs):
    benchmark = bench(root, "ssw60")
    request = request_of(root, "ssw60")
    first, whole = (
        reproduce_noise(benchmark, request, birds.bird_noise(benchmark, name), name) for name in ("table6", "table9")
    )
    rows = whole.tables["table9"].rows
    assert whole.tables["table9"].columns == (
        "clean", *(f"image noise {std}" for std in (0.05, 0.1, 0.15)),
        *(f"audio noise {std}" for std in (0.1, 0.2, 0.3)),
    )  # fmt: skip
    assert rows["confu (A+V)"]["image noise 0.1"].published == (33.1, None)
    assert rows["confu (A+V)"]["clean"].published == (71.44, None)
    assert rows["tri-clip (V)"]["image noise 0.15"].published == (5.5, None)
    assert rows["confu (A)"]["image noise 0.15"].mean == rows["confu (A)"]["clean"].mean
    assert rows["confu (V)"]["audio noise 0.3"].mean == rows["confu (V)"]["clean"].mean
    assert set(rows["clip (V)"]) == {"clean", "image noise 0.05", "image noise 0.1", "image noise 0.15"}
    assert rows["confu (what is there)"].keys() == rows["confu (A)"].keys()  # one clip is silent
    assert any(note.startswith("audio noise 0.1: noise of std 0.1 of audio, about ") for note in
               whole.tables["table9"].notes)  # fmt: skip
    only = first.tables["table6"]
    assert only.columns == ("clean", "image noise 0.05")
    assert only.rows["confu (A+V)"]["image noise 0.05"].published == (45.4, 0.1)
    same = [label for label in only.rows if only.rows[label] and "image noise 0.05" in only.rows[label]]
    assert all(only.rows[label]["image noise 0.05"].mean == rows[label]["image noise 0.05"].mean for label in same)


def test_noise_is_added_before_normalisation(root, runs):
    benchmark = bench(root, "ssw60")
    views = benchmark.rows.views
    model = load_model(runs / benchmark.runs("tri-clip", 0, {})[0].name / "last")
    seen = {}

    def spy(modality, how):
        def hook(module, args):
            seen.setdefault(modality, []).append(args[0].clone())

        handle = model.encoders[modality].register_forward_pre_hook(hook)
        (table,) = benchmark.rows.tables(model, runs / benchmark.runs("tri-clip", 0, {})[0].name, (modality, how), 3)
        handle.remove()
        return table

    settings = benchmark.rows.trained_on.readers["image"].settings
    how = PixelNoise(0.1, tuple(settings["mean"]), tuple(settings["std"]))
    table = spy("image", how)
    noisy, clean = torch.cat(seen["image"]), views.data.batch(torch.arange(len(views.data))).inputs["image"]
    noise = (noisy - clean.values[clean.rows]) * torch.tensor(settings["std"])[:, None, None]
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02) and abs(float(noise.mean())) < 1e-3
    assert float((noise[0] - noise[1]).abs().max()) > 0.1  # each frame its own
    assert not torch.equal(table[V], benchmark.rows.tables(model, runs / "bird-mml/smoke/tri-clip-s0")[0][V])
    spy("audio", GaussianNoise(std=0.3))
    assert sum(map(len, seen["audio"])) == 8  # a clip's sound is disturbed and encoded once, the silent one's never
    power = (clean.values * 0.5 + 0.5).square().mean(dim=(1, 2, 3))[clean.rows]
    assert benchmark.rows.snr_db("image", how) == pytest.approx(float(10 * (power.mean() / 0.01).log10()), abs=0.5)


def test_few_shot_learns_from_drawn_rows_and_is_asked_the_rest(root, runs):
    for name, frames, figure in (("ssw60", "eight", "fig9"), ("vb100", "eight", "fig10"), ("vb100", "single", "fig12")):
        methods = ["confu", "clip", "symile"] if frames == "eight" else ["clip"]
        outcome = measure(reproduce_few_shot, root, name, frames, methods, name=figure)
        table = outcome.tables[figure]
        assert table.columns == ("zero-shot", "1 shots", "2 shots")
        assert "left out, as the smallest class has too few rows: 5, 10, 20 shots" in table.notes
        assert {"clip (A)", "clip (V)"} <= set(table.rows) and f"{figure}-image" in outcome.figures
        if name == "ssw60":  # a species has two clips with sound and three in all
            assert set(table.rows["clip (V)"]) == {"zero-shot", "1 shots", "2 shots"}
            assert set(table.rows["confu (V)"]) == {"zero-shot", "1 shots"}
    counts = {row.metric: row.count for report in outcome.reports for row in report.rows if row.query == "image"}
    assert counts["1-shot accuracy"] == 9 - 3 and counts["2-shot accuracy"] == 9 - 6


def test_overlap_adds_up_over_all_and_in_each_species(root, runs):
    outcome = measure(reproduce_overlap, root, "ssw60", name="fig5")
    assert set(outcome.tables["fig5"].rows) == {"tri-clip", "gram", "confu"}
    assert set(outcome.tables["fig5-confu"].rows) == set(SPECIES)
    for cells in (*outcome.tables["fig5"].rows.values(), *outcome.tables["fig5-confu"].rows.values()):
        assert sum(cell.mean for cell in cells.values()) == pytest.approx(100)
    assert any("39%" in note for note in outcome.tables["fig5"].notes)
    assert set(outcome.figures) == {"fig5", "fig5-tri-clip", "fig5-gram", "fig5-confu"}


def test_finished_measurements_are_reused(root, runs):
    before = stored(runs)
    measure(reproduce_zero_shot, root, "ssw60")
    assert stored(runs) == before
    taken = root / "ssw60" / "video_ml.csv"
    text = taken.read_text()
    taken.write_text(text.rsplit("\n", 2)[0] + "\n")  # one clip less
    outcome = measure(reproduce_zero_shot, root, "ssw60", methods=["confu"])
    taken.write_text(text)
    assert {row.count for report in outcome.reports for row in report.rows if row.query == "image"} == {8}
    after = stored(runs)
    assert {path.name for path in before if after[path] != before[path]} == {"zero-shot-ssw60.json"}
    measure(reproduce_zero_shot, root, "ssw60", methods=["confu"])


class Killed(Exception):
    pass


def run_of(root, pairing=None):
    budget = Budget("smoke")
    data = birds.bird_mml(root / "bird-mml", root / "runs" / "cache", budget, pairing, progress=False)
    (run,) = birds.bird_runs("confu", data, 0, budget)
    return run


def test_a_killed_run_goes_on_with_the_pairs_it_would_have_drawn(root, tmp_path, monkeypatch):
    scale = birds_data.SCALES["smoke"]
    train = scale.train.model_copy(update={"epochs": 2, "checkpoint_every": 1})
    monkeypatch.setitem(birds_data.SCALES, "smoke", replace(scale, train=train))

    def run():
        return run_of(root)

    whole = execute(run(), tmp_path / "whole", **QUIET)
    dying = run()
    splits = dying.splits()
    batches, real = [], splits.train.batch

    def batch(indices):
        batches.append(indices)
        if len(batches) == 4:
            raise Killed
        return real(indices)

    monkeypatch.setattr(splits.train, "batch", batch, raising=False)
    with pytest.raises(Killed):
        execute(replace(dying, splits=lambda: splits), tmp_path / "killed", **QUIET)
    resumed = execute(run(), tmp_path / "killed", **QUIET)
    weights = [load_model(tmp_path / name / dying.name / "last").state_dict() for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert resumed.rows == whole.rows
    assert EmbeddingTable.load(tmp_path / "killed" / dying.name / "test.parquet").subsets


def test_pairs_may_stay_as_listed_and_say_so(root):
    afresh, fixed = (run_of(root, way) for way in (None, "fixed"))
    assert fixed.name == afresh.name.replace("-s0", "-fixed-s0")
    assert (afresh.description["pairing"], fixed.description["pairing"]) == ("afresh", "fixed")
    train = fixed.splits().train
    assert (
        train.batch(torch.tensor([3]))
        .inputs["audio"]
        .values.equal(train.batch(torch.tensor([3])).inputs["audio"].values)
    )
    json.dumps(afresh.description)


@pytest.mark.parametrize(("change", "message"), [
    ({"name": "ssw61"}, "data set 'ssw61' is not known; did you mean 'ssw60'"),
    ({"frames": "nine"}, "frames 'nine' is not known"),
    ({"name": "cub200", "frames": "single"}, "cub200 holds photos, not videos"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(root, change, message):
    given = {"name": "ssw60", "size": "smoke", "frames": "eight", **change}
    with pytest.raises(ValueError, match=message):
        bench(root, **given)


def test_no_probe_is_trained_on_rows_of_another_set(root, runs):
    with pytest.raises(ValueError, match="ssw60 has no rows to learn from: its models are trained on Bird-MML"):
        measure(reproduce_linear_probe, root, "ssw60", methods=["confu"])


def test_missing_files_are_named_with_where_they_are_from(root, tmp_path):
    with pytest.raises(ValueError, match=r"bird-mml.*`confu data list`"):
        bench(tmp_path, "ssw60").runs("confu", 0, {})
    (tmp_path / "bird-mml").symlink_to(root / "bird-mml")
    with pytest.raises(ValueError, match=r"ssw60.*`confu data list`"):
        measure(reproduce_zero_shot, tmp_path, "ssw60", methods=["confu"])
