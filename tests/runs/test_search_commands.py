"""`confu index`, `search`, `serve` and `recall` as commands."""

import importlib
import json
import re

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from confu.cli import search as commands
from confu.cli.search_results import read_sources
from confu.index import Index
from inference.parts import items, run_folder
from runs.test_indexing import N, write_manifest

app = typer.Typer(pretty_exceptions_enable=False)
for command in (commands.index, commands.serve, commands.recall):
    app.command()(command)
app.command(context_settings=commands.search_settings)(commands.search)


def said(*arguments: str, code: int = 0) -> str:
    """What a command prints; where it raises, the error."""
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "300"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("runs") / "birds")


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    place = tmp_path_factory.mktemp("index")
    output = said("index", run, write_manifest(place), "--out", place / "birds", "--workers", 1, "--device", "cpu",
                  "--metadata", "year, site")  # fmt: skip
    assert (
        f"{N - 1} rows added, 1 with nothing to embed; {N - 1} items in" in output and "metadata: year, site" in output
    )
    assert "Next: confu search" in output
    return place / "birds"


def test_a_question_is_answered_by_a_table(folder, tmp_path):
    np.save(tmp_path / "a.npy", np.array(items(N)["sensor"][8], dtype=np.float32))
    output = said("search", folder, "--sensor", tmp_path / "a.npy", "--text=a red bird", "--target", "sensor", "-k", 4,
                  "--where", "year > 2003", "--singles")  # fmt: skip
    assert output.count("sensor+text ~ sensor") == 1 and "sensor alone ~ sensor" in output and "the mean of" in output
    part = output.split("sensor alone")[1]
    assert re.search(r"1 .*1\.000 .*row8 .*media/\w{40,}.*2008 .*north", part)


def test_a_question_is_answered_by_json(folder):
    numbers = json.dumps(items(N)["sensor"][8])
    found = json.loads(said("search", folder, "--sensor", numbers, "--target", "sensor", "-k", 3, "--json"))
    assert (found["query"], found["target"], len(found["hits"])) == ("sensor", "sensor", 3)
    assert found["hits"][0]["id"] == "row8" and found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert found["hits"][0]["metadata"] == {"year": 2008, "site": "north"}
    alike = json.loads(said("search", folder, "--like", "row8", "--by", "sensor", "--target", "text", "--json"))
    assert len(alike["hits"]) == 10 and alike["query"] == "sensor"
    blend = json.loads(said("search", folder, "--sensor", numbers, "--text", "a bird", "--target", "steps", "--json",
                            "--weight", "sensor=1", "--weight", "sensor+text=0"))  # fmt: skip
    alone = json.loads(said("search", folder, "--give", f"sensor={numbers}", "--target", "steps", "--json"))
    assert [hit["id"] for hit in blend["hits"]] == [hit["id"] for hit in alone["hits"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sensr", "a.npy"], "modality 'sensr' is not known; did you mean 'sensor'"),
        (["--sensor"], "--sensor needs a value"),
        (["--sensor", "[1, 2"], r"--sensor is a vector, such as \[1, 2, 3\]; got '\[1, 2'"),
        (["--sensor", "[1, 2]", "--target", "text"], "6"),
        (["--text", "a", "--text", "b"], "--text stands twice"),
        (["--text", "a red bird", "--target", "smell"], "smell"),
        (["--text", "a red bird", "--target", "sensor", "--where", "size > 3"], "size"),
        (["--text", "a red bird", "--target", "sensor", "--weight", "text=x"], "--weight takes SUBSET=NUMBER"),
        (["--text", "a red bird", "--like", "row8"], "not with both"),
        (["--by", "text"], "--by says which modalities"),
        (["--like", "nobody"], "has no item 'nobody'"),
        (["row8"], "expected an option such as --"),
    ],
)
def test_a_wrong_question_says_what_to_ask(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        said("search", folder, *arguments)


def test_an_option_before_the_folder_is_an_error(folder):
    with pytest.raises(ValueError, match="the folder of the index comes first"):
        said("search", "--text", "a red bird", folder)


def test_sources_are_read_by_what_their_modality_holds():
    kinds = {"image": "image", "steps": "sequence", "depth": "number", "text": "text"}
    arguments = ["--image=a=b.png", "--steps", "[[1, 2]]", "--depth", "-3.5", "--text", "[sic]"]
    assert read_sources(arguments, kinds) == {"image": "a=b.png", "steps": [[1, 2]], "depth": -3.5, "text": "[sic]"}


def test_items_are_taken_out_and_damage_is_told(run, tmp_path):
    out = tmp_path / "index"
    said("index", run, write_manifest(tmp_path), "--out", out, "--workers", 1, "--device", "cpu")
    assert "2 of 3 items taken out" in said("index", out, "--delete", "row1", "--delete", "row2", "--delete", "nobody")
    assert f"All is as it was written: {N - 3} items" in said("index", out, "--verify", "--compact")
    write_manifest(tmp_path, n=4)
    assert "has changed (23 rows then, 4 now)" in said("index", out, "--verify", code=1)
    file = next(out.glob("items.*-0.f32"))
    file.write_bytes(file.read_bytes()[:-4])
    assert re.search(r"0.f32 is shorter than it was written", said("index", out, "--verify", code=1))
    with pytest.raises(ValueError, match="take just the index"):
        said("index", out, "x.csv", "--verify")
    with pytest.raises(ValueError, match="confu index RUN MANIFEST --out DIR; one of these is missing"):
        said("index", run)


def test_serving_hands_on_what_was_said(folder, monkeypatch):
    pytest.importorskip("fastapi")
    serving = importlib.import_module("confu.serve")

    calls = []
    monkeypatch.setattr(serving, "run", lambda *given, **named: calls.append((given, named)))
    said("serve", folder, "--port", 0, "--set", "max_upload_mb=3", "--run", "elsewhere")
    (place, settings), named = calls[0]
    assert (
        place == folder and settings.max_upload_mb == 3 and settings.host == "127.0.0.1" and named["run"] == "elsewhere"
    )
    assert "max_upload_mb" in said("serve", folder, "--list")
    with pytest.raises(ValueError, match="max_uplaod_mb"):
        said("serve", folder, "--set", "max_uplaod_mb=3")


def test_recall_is_measured_and_drawn(folder, tmp_path):
    output = said("recall", folder, "--queries", 5, "-k", 3, "--target", "sensor", "--out", tmp_path / "recall.png")
    assert "recall@3" in output and "100.0 %" in output and (tmp_path / "recall.png").exists()


def test_help_teaches(folder):
    assert "confu search DIR --image a.png --audio b.wav" in said("search", "--help")
    assert "confu index RUN MANIFEST --out DIR" in said("index", "--help") and len(Index.open(folder)) == N - 1
