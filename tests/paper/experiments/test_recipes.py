"""The recipes end to end at their smallest size, on generated files, through the command line."""

import json
import re

import pytest
from typer.testing import CliRunner

from confu.cli import app, main
from confu.evaluation import Report
from confu.methods import FAIR, METHODS, VARIANTS
from confu_paper.experiments import av_mnist
from confu_paper.experiments.run import execute
from confu_paper.experiments.xor import fused_query, xor_run


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_xor_writes_its_table_and_reuses_finished_runs(tmp_path):
    arguments = [
        "reproduce", "xor", "--size", "smoke", "--methods", "confu,tri-clip", "--seeds", "2", "--p", "1",
        "--runs", tmp_path / "runs", "--json", tmp_path / "xor.json", "--no-progress",
    ]  # fmt: skip
    output = invoke(*arguments)
    assert "ceiling" in output and "100.0" in output
    content = json.loads((tmp_path / "xor.json").read_text())
    assert len(content["reports"]) == 4
    assert content["tables"]["xor"]["rows"]["confu"]["p = 1"]["std"] is not None
    assert all(
        (tmp_path / "runs" / "tables" / "smoke" / f"xor.{kind}").stat().st_size
        for kind in ("md", "tex", "csv", "png", "svg")
    )
    states = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("state.pt")}
    assert len(states) == 4
    assert invoke(*arguments)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("state.pt")} == states


@pytest.mark.heavy  # an example trains XOR too, and is run
def test_the_bilinear_variant_solves_xor_where_pairs_do_not(tmp_path):
    """The claim of the paper at its smallest: ten epochs of a quarter of the data at dimension 16."""
    accuracies = {}
    for method in ("confu-bilinear", "tri-clip"):
        run = xor_run(method, p=1.0, dim=16, seed=0, size="small")
        run = run.__class__(**{**vars(run), "train": run.train.model_copy(update={"epochs": 8})})
        rows = execute(run, tmp_path, progress=False).rows
        accuracies[method] = {row.query: row.value for row in rows}[fused_query(method)]
    assert accuracies["confu-bilinear"] > 0.99
    assert accuracies["tri-clip"] < 0.15


def test_a_run_of_other_settings_is_not_overwritten(tmp_path):
    run = xor_run("confu", size="smoke")
    execute(run, tmp_path, progress=False)
    other = run.__class__(**{**vars(run), "train": run.train.model_copy(update={"lr": 0.5})})
    with pytest.raises(ValueError, match=r"other settings: train.lr is 0.001 there and 0.5 here"):
        execute(other, tmp_path, progress=False)
    assert Report.load(tmp_path / run.name / "report.json").rows


@pytest.mark.parametrize("method", [name for name in METHODS if name != "symile-n2"])  # that one takes its time
def test_every_method_of_xor_answers_the_two_to_one_query(method, tmp_path):
    rows = execute(xor_run(method, dim=8, size="smoke"), tmp_path, progress=False).rows
    assert fused_query(method) in {row.query for row in rows}


def test_av_mnist_fills_the_whole_table(av_mnist_data, tiny_av_mnist, tmp_path):
    folders = ["--data", av_mnist_data, "--runs", tmp_path / "runs", "--json", tmp_path / "out.json"]
    invoke("reproduce", "av-mnist", "--size", "smoke", "--seeds", "1", *folders, "--no-progress")
    table = json.loads((tmp_path / "out.json").read_text())["tables"]["av-mnist"]
    filled = {label: set(cells) for label, cells in table["rows"].items()}
    assert filled == {  # a method that cannot answer shows a dash
        "clip": {"A", "V"},
        "tri-clip": {"A", "V", "mean(A, V)"},
        "symile": {"A+V"},
        "gram": {"A", "V", "A+V"},
        "triangle": {"A+V"},
        "confu": {"A", "V", "A+V", "mean(A, V)"},
        "supervised (ceiling)": {"A", "V", "A+V"},
    }
    assert table["rows"]["confu"]["A+V"]["published"] == [71.2, 0.2]


def test_every_variant_names_methods_that_exist():
    assert {name for names in VARIANTS.values() for name in names} <= set(METHODS)
    assert set(FAIR) == {"clip", "tri-clip", "symile", "gram", "triangle", "confu"}
    assert len(VARIANTS["as_released"]) == len(FAIR)


def test_a_sweep_of_two_settings_draws_its_front(tmp_path):
    output = invoke(
        "sweep", "xor", "--size", "smoke", "--set", "fused_weight=0.3,0.7", "--set", "mask_ratio=0,0.3",
        "--set", "dim=8", "--runs", tmp_path, "--no-progress",
    )  # fmt: skip
    assert "(chosen)" in output and "mean accuracy 2 -> 1" in output and "Δ" in output
    drawn = {path.name.split("-")[0] for path in (tmp_path / "tables" / "smoke").glob("*.png")}
    assert drawn == {"pareto", "mask"}


def test_lambda_and_mask_run_on_any_benchmark(tmp_path):
    shared = ["--on", "xor", "--size", "smoke", "--seeds", "1", "--runs", tmp_path, "--no-progress"]
    assert "fused_weight=0.9" in invoke("reproduce", "table7", *shared)
    output = invoke("reproduce", "fig7", *shared)
    assert "accuracy x1+x3" in output and "2 pairs" in output  # two mask ratios against none
    written = {path.name for path in (tmp_path / "tables" / "smoke").iterdir()}
    assert {"table7.png", "table7.csv", "table7-paper.tex", "fig7.png", "fig7.tex"} <= written


def test_search_is_chosen_by_validation_and_goes_on(tmp_path):
    arguments = [
        "sweep", "xor", "--size", "smoke", "--method", "gram", "--search", "lr=log:1e-3:1e-2", "--set", "dim=8",
        "--runs", tmp_path, "--no-progress", "--trials",
    ]  # fmt: skip
    assert "the best 1 of 1 trials by validation accuracy x1+x3" in invoke(*arguments, 1)
    assert "the best 2 of 2 trials" in invoke(*arguments, 2)
    assert len(list((tmp_path / "xor" / "smoke").iterdir())) == 2


def test_paper_size_uses_the_papers_encoders_and_settings():
    scale = av_mnist.SCALES["paper"]
    assert scale.encoders["image"]["kind"] == scale.encoders["audio"]["kind"] == "resnet"
    assert scale.encoders["text"]["kind"] == "bert"
    assert (scale.train.epochs, scale.train.batch_size, scale.train.lr, scale.dim) == (30, 256, 1e-4, 256)
    assert scale.limit is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "av-mnist", "--data", "nowhere"], "AV-MNIST is not in nowhere. `confu data list` says where"),
        (["reproduce", "xor", "--methods", "confuu"], "'confuu' is not known; did you mean 'confu'"),
        (["reproduce", "xor", "--size", "smoke", "--p", "a,b"], "--p takes numbers with commas"),
        (["plan", "image", "audio", "text", "--fused-weight", "2"], r"\[0, 1\], got 2"),
        (["reproduce", "tabel1"], "'tabel1' is not known; did you mean 'table1'"),
        (["reproduce", "fig2"], "Fig 2 .* is an illustration"),
        (["reproduce", "table5"], "SSW60 is not in data/ssw60; VB100 is not in data/vb100.*--data$"),
        (["reproduce", "table2"], "MOSI is not in data/affect.*or ask the same of other data with --on av-mnist"),
        (
            ["reproduce", "table4", "--data", "birds"],
            "measured on ssw60, vb100; say with --on which of them --data holds",
        ),
        (["reproduce", "table2", "--on", "mosy"], "data set 'mosy' is not known; did you mean 'mosi'"),
        (["reproduce", "fig3", "--on", "av-mnist"], "asks a question of XOR itself, not of av-mnist"),
        (["reproduce", "gaps", "--on", "xor"], "gaps is measured on av-mnist, not on xor"),
        (["reproduce", "gaps", "--shares", "some"], "--shares takes numbers with commas"),
        (["reproduce", "corruptions", "--on", "xor"], "no corruptions are chosen for xor; they are for av-mnist"),
        (
            ["reproduce", "table2", "--on", "xor", "--size", "smoke", "--seeds", "1", "--methods", "tri-clip"],
            "the runs of xor do not measure recall@10",
        ),
        (["sweep", "xor"], "nothing to change: give --set"),
        (["sweep", "xor", "--set", "lamda=0.1"], "'lamda' is not known"),
        (["sweep", "xor", "--method", "gram", "--set", "fused_weight=0.1"], "gram has no fusion networks"),
        (
            ["data", "av-mnist", "--mnist", "no", "--speech", "no", "--noise", "no", "--out", "out"],
            "no: no such folder",
        ),
    ],
)
def test_a_wrong_input_ends_in_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["confu", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in error
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


def test_plan_command_prints_the_cost():
    assert "4 modalities, 25 terms, 10 fusion networks" in invoke("plan", "a", "b", "c", "d", "--kind", "disjoint")
