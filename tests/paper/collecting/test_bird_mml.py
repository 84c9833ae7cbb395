"""The caption steps on a recorded collection, from the files of the sources to the manifest and its card."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from confu.data.manifest import check_labels, check_manifest, guess_columns, read_manifest
from confu.data.readers import ImageReader, WaveformReader, WordsReader
from confu_paper.collecting import models as models_module
from confu_paper.collecting.bird_mml import chosen_steps, collect_bird_mml, done_table
from confu_paper.collecting.collection import Addresses, Collection, Models
from confu_paper.collecting.models import LanguageModel
from confu_paper.collecting.step_log import StepLog, read_records
from confu_paper.datasets.bird_mml import read_bird_mml
from paper.collecting.clock import Clock
from paper.collecting.faulty_server import KEY, FaultyServer
from paper.collecting.recorded import CLIPS, SPECIES, record_collection

STEPS = ("image_captions", "summaries", "captions", "manifest")


def collect(folder: Path, models: Path, **settings) -> Path:
    """The caption steps on a folder with tiny models, two items at a time."""
    settings = {"models": tiny(models), "per_species": 5, "summaries": 4, "progress": False, **settings}
    return collect_bird_mml(Collection(folder / "taxa.csv", folder, **settings), STEPS)


def tiny(models: Path) -> Models:
    return Models(str(models / "blip"), str(models / "gemma"), "cpu", batch_size=2)


@pytest.fixture(scope="module")
def collected(tmp_path_factory, models) -> Path:
    out = record_collection(tmp_path_factory.mktemp("birds") / "out")
    collect(out, models)
    return out


def rows_of(out: Path) -> list[dict]:
    return read_manifest(out / "manifest.parquet").table.to_pylist()


def test_the_manifest_is_balanced_and_opens_as_any_other(collected):
    manifest = read_manifest(collected / "manifest.parquet")
    rows = manifest.table.to_pylist()
    assert Counter(row["scientific_name"] for row in rows) == {scientific: 5 for scientific, _ in SPECIES.values()}
    assert {row["label"] for row in rows} == {common for _, common in SPECIES.values()}
    for taxon in SPECIES:
        of_species = [row for row in rows if row["taxon_id"] == taxon]
        assert len({row["photo_file"] for row in of_species}) == 5
        assert Counter(Counter(row["audio_file"] for row in of_species).values()) == {1: CLIPS - 1, 2: 1}
        assert sum(row["reused"] for row in of_species) == 1
    assert check_labels(manifest, None) == []
    words = sorted({word for row in rows for word in row["combined_caption"].split()})
    readers = {
        "image": ("photo_file", ImageReader(8)),
        "audio": ("audio_file", WaveformReader(22_050)),
        "text": ("combined_caption", WordsReader(words)),
    }
    assert check_manifest(manifest, readers, workers=0, progress=False) == []
    kinds = {name: guess.kind for name, guess in guess_columns(manifest).items()}
    assert (kinds["photo_file"], kinds["audio_file"], kinds["combined_caption"]) == ("image", "audio", "text")


def test_every_row_names_licences_and_authors(collected):
    for row in rows_of(collected):
        assert row["photo_licence"] in ("cc-by", "cc-by-nc", "cc0") and row["photo_attribution"].startswith("(c) Zoë")
        assert row["audio_licence"] == "cc-by-nc-nd" and row["audio_attribution"] == "Łukasz, XC"
        assert row["text_licence"] == "CC BY-SA 4.0" and row["text_url"].endswith("?oldid=77")
        assert row["tags"].startswith("type: song") and row["group"].startswith("XC")


def test_the_bird_loader_reads_it(collected):
    rows = read_bird_mml(collected)
    assert len(rows.ids) == 15 and set(rows.class_names) == {common for _, common in SPECIES.values()}
    assert rows.problems == []


def test_the_card_tells_what_there_is(collected):
    card = (collected / "README.md").read_text(encoding="utf-8")
    for told in (
        "15 triplets", "of 3 of 3 species", "| Apteryx rowi | Ōkārito Kiwi | 5 | 6 | 2 | 4 | 1 | 4 |",
        "Describe the bird's colors", "image model: `blip`", "language model: `gemma`",
        "| photo (iNaturalist) | cc-by |",        "| audio (xeno-canto) | cc-by-nc-nd | 15 | 1 |",
        "15 rows have a clip of a recording whose licence forbids", "| image_captions | kept | 18 |", "license: other",
    ):  # fmt: skip
        assert told in card
    assert str(collected) not in card


def test_a_second_run_asks_no_model(collected, models, monkeypatch):
    before = {file.name: file.read_bytes() for file in collected.iterdir() if file.is_file()}

    def never(*_):
        raise AssertionError("a model was loaded though all is done")

    monkeypatch.setattr(models_module, "from_pretrained", never)
    collect(collected, models)
    assert {file.name: file.read_bytes() for file in collected.iterdir() if file.is_file()} == before


def test_more_of_everything_makes_only_what_is_new(collected, models, tmp_path):
    out = shutil.copytree(collected, tmp_path / "more")
    before = (out / "image_captions.jsonl").read_bytes()
    collect(out, models, per_species=6)
    assert (out / "image_captions.jsonl").read_bytes() == before
    old = (collected / "captions.jsonl").read_bytes()
    assert (out / "captions.jsonl").read_bytes().startswith(old)
    assert len(read_records(out / "captions.jsonl")) == 18 and len(rows_of(out)) == 18


def test_other_settings_are_refused(collected, models, tmp_path):
    out = shutil.copytree(collected, tmp_path / "other")
    with pytest.raises(
        ValueError, match=r"summaries\.jsonl: its items were made with other settings: seed was 0, is 1"
    ):
        collect(out, models, seed=1)


def test_species_that_lack_something_are_named(tmp_path, models):
    lacking = {"photos": {"12": 0}, "clips": {"34": 0}, "sections": {"34": 0}}
    out = record_collection(tmp_path / "out", **lacking)
    with (out / "taxa.csv").open("a") as lines:
        lines.write("\nAvis ignota,,")
    ignota = {"key": "Avis ignota", "outcome": "unknown to iNaturalist", "scientific_name": "Avis ignota"}
    with (out / "taxa.jsonl").open("a") as lines:
        lines.write(json.dumps(ignota) + "\n")
    collect(out, models)
    assert {row["scientific_name"] for row in rows_of(out)} == {"Ciconia ciconia"}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Species without a row (3)" in card
    assert "- Turdus merula / Common Blackbird: no photos" in card
    assert "- Apteryx rowi / Ōkārito Kiwi: no clips, no summaries" in card
    assert "- Avis ignota: unknown to iNaturalist" in card
    with (out / "taxa.csv").open("a") as lines:
        lines.write("\nAvis nova,,")
    with pytest.raises(ValueError, match="Avis nova not looked up; run the step 'taxa'"):
        collect(out, models)


def test_nothing_at_all_is_an_error_that_names_it(tmp_path, models):
    out = record_collection(tmp_path / "out", clips=dict.fromkeys(SPECIES, 0))
    with pytest.raises(ValueError, match="clips"):
        collect(out, models)
    out = record_collection(tmp_path / "none", photos=dict.fromkeys(SPECIES, 0))
    with pytest.raises(ValueError, match="photos"):
        collect(out, models)


def test_a_file_that_is_gone_is_named_and_its_row_left_out(collected, models, tmp_path):
    out = shutil.copytree(collected, tmp_path / "gone")
    gone = rows_of(out)[0]
    (out / gone["photo_file"]).unlink()
    collect(out, models)
    assert gone["id"] not in {row["id"] for row in rows_of(out)} and len(rows_of(out)) == 14
    assert f"- photo {gone['id']}: photo gone from the disk" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("items", [7, 35])
def test_an_interrupted_run_ends_the_same(collected, models, tmp_path, monkeypatch, items):
    """Stopped among the photos' captions, or among the merged captions; every prompt is answered once."""
    out, prompts, logged = record_collection(tmp_path / "out"), [], []
    answer, add = LanguageModel.answer, StepLog.add

    def note_prompts(self, texts, seeds):
        prompts.extend(seeds)
        return answer(self, texts, seeds)

    def add_and_stop(self, key, record):
        add(self, key, record)
        logged.append(key)
        if len(logged) == items:
            raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModel, "answer", note_prompts)
    monkeypatch.setattr(StepLog, "add", add_and_stop)
    with pytest.raises(KeyboardInterrupt):
        collect(out, models)
    assert not (out / "manifest.parquet").exists()
    collect(out, models)
    assert rows_of(out) == rows_of(collected)
    repeated = sum(count - 1 for count in Counter(prompts).values())
    assert repeated <= 4, "at most the batch of two that was interrupted, or as often as its answers were drawn again"


def test_steps_are_checked_before_any_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("XENO_CANTO_KEY", raising=False)
    (tmp_path / "taxa.csv").write_text("scientific_name\nTurdus merula")
    assert chosen_steps(None)[0] == "taxa" and chosen_steps(STEPS[::-1]) == list(STEPS)
    plain = Collection(tmp_path / "taxa.csv", tmp_path)
    with pytest.raises(ValueError, match="did you mean 'photos'"):
        collect_bird_mml(plain, ["photo"])
    with pytest.raises(ValueError, match="needs a key"):
        collect_bird_mml(Collection(tmp_path / "taxa.csv", tmp_path, contact="ada@example.org"), ["recordings"])
    with pytest.raises(ValueError, match="contact: the steps taxa, photos"):
        collect_bird_mml(plain, ["taxa", "photos"])
    with pytest.raises(ValueError, match="run that step first"):
        collect_bird_mml(plain, ["captions"])
    with pytest.raises(ValueError, match="no such file"):
        collect_bird_mml(Collection(tmp_path / "none.csv", tmp_path), ["captions"])
    assert [file.name for file in tmp_path.iterdir()] == ["taxa.csv"]


def test_all_steps_run_from_names_to_rows(models, tmp_path, monkeypatch):
    monkeypatch.delenv("XENO_CANTO_KEY", raising=False)
    (tmp_path / "taxa.txt").write_text("Ardea alba\nCorvus corax\nAvis ignota\n")
    out = tmp_path / "out"
    given = {"per_species": 3, "summaries": 2, "progress": False, "models": tiny(models)}
    with FaultyServer() as server:
        given |= {"client": Clock().client(timeout=1.0), "addresses": Addresses(**server.addresses)}
        server.fail("/photos/", "500")
        file = collect_bird_mml(Collection(tmp_path / "taxa.txt", out, key=KEY, **given))
        requests = len(server.asked)
        assert collect_bird_mml(Collection(tmp_path / "taxa.txt", out, **given)) == file
        assert len(server.asked) == requests
    rows = rows_of(out)
    assert Counter(row["scientific_name"] for row in rows) == {"Ardea alba": 3, "Corvus corax": 3}
    assert {row["label"] for row in rows} == {"Great Egret", "Common Raven"}
    empty = {name for row in rows for name, value in row.items() if value is None}
    assert empty == set()
    assert {row["photo_url"].rpartition("/")[0] for row in rows} == {"https://www.inaturalist.org/photos"}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "- Avis ignota: unknown to iNaturalist" in card and KEY not in card


def test_the_table_says_what_is_done(collected, tmp_path):
    cells = [list(column.cells) for column in done_table(collected).columns]
    told = dict(zip(cells[0], cells[2]))
    assert told["photos"] == "18" and told["captions"] == "15" and told["manifest"] == "written"
    assert set(done_table(tmp_path).columns[2].cells) == {"-"}
