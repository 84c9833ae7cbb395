"""Model folders: what is saved gives the same embeddings, whole or not at all, with a card that tells of the data."""

import json
from dataclasses import asdict

import pytest
import torch
import yaml

from confu.inference import Embedder, load
from confu.inference.card import Facts, facts_of_run, model_card
from confu.models import save_model
from confu.plan import pairwise_plan

from .parts import NAMES, embedder, items, model, run_folder, write_report

FILES = ["README.md", "inputs.json", "model.json", "model.safetensors"]


def card_of(made):
    return made.model, made.readers, made.parts.facts


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("where", [".", "best"])
def test_a_run_folder_is_loaded(where, tmp_path):
    run_folder(tmp_path)
    made, sources = load(tmp_path / where), items(3)
    del sources["steps"]
    assert torch.equal(made.encode(sources).vectors, embedder().encode(sources).vectors)
    assert made.parts.class_names == ("bird", "fish", "cat")
    assert made.dim == 4 and made.modalities == NAMES


def test_a_saved_model_embeds_and_saves_the_same_again(tmp_path):
    write_report(run_folder(tmp_path / "run"))
    made, sources = load(str(tmp_path / "run")), items(3)
    del sources["text"]
    made.save_pretrained(tmp_path / "a" / "flat", licence="mit")
    again = Embedder.from_pretrained(tmp_path / "a" / "flat")
    again.save_pretrained(tmp_path / "b", licence="mit")
    assert names_in(tmp_path / "a" / "flat") == names_in(tmp_path / "b") == FILES
    assert names_in(tmp_path / "a") == ["flat"]
    for name in FILES:
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / "flat" / name).read_bytes()
    assert torch.equal(again.encode(sources).vectors, made.encode(sources).vectors)
    assert again.parts.fingerprint() == made.parts.fingerprint()
    assert (tmp_path / "b").stat().st_mode & 0o777 == (tmp_path / "a").stat().st_mode & 0o777


def test_saving_into_a_folder_replaces_only_the_model(tmp_path):
    embedder(pairwise_plan(NAMES)).save_pretrained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    embedder().save_pretrained(tmp_path)
    assert names_in(tmp_path) == sorted([*FILES, "notes.txt"])
    assert load(tmp_path).supports("sensor+text")


def test_a_saved_fingerprint_is_not_computed_again(tmp_path, monkeypatch):
    made = embedder()
    made.save_pretrained(tmp_path / "a")
    other = embedder(pairwise_plan(NAMES))
    other.save_pretrained(tmp_path / "b")
    assert load(tmp_path / "a").parts.fingerprint() == made.parts.fingerprint()
    part = load(tmp_path / "a", modalities=["text", "sensor"])
    assert part.parts.fingerprint() != made.parts.fingerprint()
    # The weights of another model were copied over those that the fingerprint is of.
    for name in ("model.json", "model.safetensors"):
        (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    assert load(tmp_path / "a").parts.fingerprint() == other.parts.fingerprint()
    again = load(tmp_path / "b")
    monkeypatch.setattr("hashlib.sha256", None)
    assert again.parts.fingerprint() == again.parts.fingerprint() == other.parts.fingerprint()


def test_a_folder_without_a_fingerprint_computes_it_once(tmp_path, monkeypatch):
    embedder().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "inputs.json").read_text())
    del content["fingerprint"], content["checked"]
    (tmp_path / "inputs.json").write_text(json.dumps(content))
    made = load(tmp_path)
    first = made.parts.fingerprint()
    assert first == embedder().parts.fingerprint()
    monkeypatch.setattr("hashlib.sha256", None)
    assert made.parts.fingerprint() == first


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_save_leaves_what_was_there(there, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    if there:
        embedder(pairwise_plan(NAMES)).save_pretrained(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("confu.inference.model_folder.model_card", full)
    with pytest.raises(OSError, match="No space left"):
        embedder().save_pretrained(folder)
    assert names_in(tmp_path) == (["model"] if there else [])
    if there:
        assert not load(folder).supports("sensor+text")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; give the folder to write"):
        embedder().save_pretrained(tmp_path / "file")


def test_facts_of_a_run_count_rows_without_machine_paths(tmp_path):
    write_report(run_folder(tmp_path))
    facts = facts_of_run(tmp_path, model().plan.subsets)
    assert facts.splits == {"train": 3, "validation": 1, "test": 1} and facts.skipped == 1 and facts.rows == 5
    assert facts.complete == {
        "sensor": 5, "steps": 4, "text": 4, "sensor+steps": 4, "sensor+text": 4, "steps+text": 3
    }  # fmt: skip
    assert facts.columns == {"sensor": "sensor", "steps": "steps", "text": "caption"}
    assert (facts.method, facts.seed, facts.manifest) == ("confu", 3, "clips.parquet")
    assert facts.numbers[0]["value"] == 0.625
    assert "private" not in json.dumps(asdict(facts)) and "Secret" not in json.dumps(asdict(facts))
    assert Facts.from_dict({**asdict(facts), "later": 1}) == facts
    assert facts_of_run(tmp_path / "best", []) == Facts()


@pytest.mark.parametrize("name", ["run.yaml", "rows.parquet", "report.json", "versions.json"])
def test_damaged_files_of_a_run_are_named(name, tmp_path):
    write_report(run_folder(tmp_path))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:10])
    with pytest.raises(ValueError, match=f"{name}: not"):
        load(tmp_path)


def test_the_card_is_filled_in(tmp_path):
    write_report(run_folder(tmp_path))
    card = model_card(*card_of(load(tmp_path)), licence="mit", name="anna/birds")
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "mit" and header["library_name"] == "confu" and "text" in header["tags"]
    for text in (
        "confu.load('anna/birds')",
        "text ~ sensor+steps     0.5  sensor+steps",
        "| text | text | words | tokens |",
        "5 rows (3 train, 1 validation, 1 test) of `clips.parquet`; 1 more was set aside",
        "| steps+text | 3 | 60.0% |",
        "| recall@1 | sensor+steps | text | 0.625 | 8 |",
        "| confu | 1.2.3 |",
    ):
        assert text in card
    assert "has not stated" not in card


def test_a_card_of_a_model_of_which_nothing_is_known(tmp_path):
    card = model_card(*card_of(embedder(pairwise_plan(NAMES), score="volume")), name="evil\n---\n# heading")
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "unknown" and "has not stated under which licence" in card
    assert "# evil --- # heading\n" in card and "\n# heading" not in card
    assert "## Data" not in card and "## Numbers" not in card and "## Versions" not in card
    assert "pair_scores" in card and "similarity" not in card


def test_the_usage_of_the_card_runs(tmp_path):
    made = embedder()
    made.save_pretrained(tmp_path / "path" / "to")
    code = (tmp_path / "path" / "to" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("path/to/this/folder", str(tmp_path / "path" / "to")).replace(
        '"steps.npy"', "[[1.0, 2.0, 3.0]]"
    )
    code = code.replace("import confu", "import confu.inference").replace("confu.load", "confu.inference.load")
    exec(code, {})


def test_folders_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder; expected a run folder"):
        load(tmp_path / "gone" / "deep" / "er")
    with pytest.raises(ValueError, match=r"holds no model .*is the training done\?"):
        load(tmp_path)
    save_model(model(), tmp_path / "best")
    with pytest.raises(ValueError, match=r"has no inputs.json.*Use confu.load_model"):
        load(tmp_path)
    for text, match in (
        ("{", "inputs.json: not whole JSON"),
        ('{"format": 7}', "format 7, but this version of confu reads format 1"),
        ('{"format": 1}', "lacks the readers"),
        ('{"format": 1, "readers": {"text": {"kind": "words", "vocabulary": []}}}', "no reader for sensor, steps"),
    ):
        (tmp_path / "inputs.json").write_text(text)
        with pytest.raises(ValueError, match=match):
            load(tmp_path)


def test_nothing_is_pickled(tmp_path):
    embedder().save_pretrained(tmp_path)
    assert names_in(tmp_path) == FILES
    for name in ("README.md", "inputs.json", "model.json"):
        (tmp_path / name).read_text(encoding="utf-8")
    start = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(start[:8], "little")
    json.loads(start[8 : 8 + length])
    assert len(start) > 8 + length
