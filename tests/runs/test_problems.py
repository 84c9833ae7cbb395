"""What is wrong with a table is found before anything is trained, and nothing is replaced."""

import csv

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from confu.runs.checking import check
from confu.runs.prepare import open_run
from confu.runs.proposal import init
from confu.runs.training import train
from runs.own_data import RUN, make_rows, write_table
from runs.own_data import write_run as write_run_file

ONE_EPOCH = RUN.replace("epochs: 2", "epochs: 1")


def write_run(folder):
    return write_run_file(folder, ONE_EPOCH)


def listed(folder):
    with (folder / "problems.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def broken(tmp_path):
    """A table with five broken rows, among gaps."""
    rows = make_rows(tmp_path, 60)
    (tmp_path / rows[3]["image"]).write_bytes((tmp_path / rows[3]["image"]).read_bytes()[:60])
    (tmp_path / rows[5]["audio"]).write_bytes((tmp_path / rows[5]["audio"]).read_bytes()[:50])
    rows[7]["image"] = "images/none.png"
    rows[8]["text"] = "   "
    rows[10]["image"] = "../secret.png"
    write_table(tmp_path, rows)
    return tmp_path


def test_broken_rows_stop_the_run_with_row_and_column(broken):
    with pytest.raises(ValueError) as caught:
        train(write_run(broken), progress=False)
    message = str(caught.value)
    assert "5 of 60 rows cannot be used" in message
    for place in ("row 3 (id clip-3), column 'image'", "row 5 (id clip-5), column 'audio'",
                  "row 7 (id clip-7), column 'image'", "row 8 (id clip-8), column 'text'",
                  "row 10 (id clip-10), column 'image'", "data.on_error to skip"):  # fmt: skip
        assert place in message, place
    found = listed(broken / "runs" / "clips")
    assert [(one["row"], one["column"]) for one in found] == [
        ("3", "image"), ("5", "audio"), ("7", "image"), ("8", "text"), ("10", "image")
    ]  # fmt: skip
    assert not (broken / "runs" / "clips" / "settings.json").exists()


def test_broken_rows_are_skipped_and_counted_on_request(broken, capsys):
    folder = train(write_run(broken), ["data.on_error=skip"])
    assert "5 of 60 rows are set aside" in capsys.readouterr().err
    opened = open_run(folder)
    assert sorted({problem.row for problem in opened.skipped}) == [3, 5, 7, 8, 10]
    ids = [id for part in (opened.splits.train, opened.splits.validation, opened.splits.test) for id in part.ids]
    assert len(ids) == 55
    assert not {"clip-3", "clip-5", "clip-7", "clip-8", "clip-10"} & set(ids)
    assert [one["set_aside"] for one in listed(folder)] == ["yes"] * 5
    again = train(broken / "run.yaml", ["data.on_error=skip"], progress=False)
    assert len(open_run(again).skipped) == 5


def test_an_empty_column_is_named_and_cannot_be_skipped(tmp_path):
    rows = [{**row, "audio": ""} for row in make_rows(tmp_path)]
    write_table(tmp_path, rows)
    for on_error in ("stop", "skip"):
        with pytest.raises(ValueError, match=r"column 'audio': is empty in every row.*\nTake the modality out"):
            train(write_run(tmp_path), [f"data.on_error={on_error}"], progress=False)


def test_duplicate_ids_and_unknown_splits_are_problems(tmp_path):
    rows = [{**row, "split": "train"} for row in make_rows(tmp_path)]
    for number in range(0, 60, 6):
        rows[number]["split"] = "val"
    for number in range(3, 60, 6):
        rows[number]["split"] = "test"
    rows[1]["id"], rows[2]["split"] = "clip-0", "tset"
    write_table(tmp_path, rows)
    with pytest.raises(ValueError) as caught:
        train(write_run(tmp_path), progress=False)
    assert "the id 'clip-0' is that of row 0 already" in str(caught.value)
    assert "the split 'tset' is not known; did you mean 'test'?" in str(caught.value)
    opened = open_run(train(tmp_path / "run.yaml", ["data.on_error=skip"], progress=False))
    assert len(opened.splits.validation) == 10
    assert {problem.row for problem in opened.skipped} == {1, 2}


def test_a_class_seen_only_in_test_is_told_and_stays(tmp_path, capsys):
    parts = ("train", "train", "validation", "test")
    rows = [{**row, "split": parts[number % 4]} for number, row in enumerate(make_rows(tmp_path))]
    rows[3]["label"] = "eleven"
    write_table(tmp_path, rows)
    folder = train(write_run(tmp_path))
    shown = capsys.readouterr().err
    assert "the class 'eleven' is in test, but in no row of train" in " ".join(shown.split())
    assert listed(folder)[0]["row"] == "3"
    assert listed(folder)[0]["set_aside"] == "no"
    opened = open_run(folder)
    assert "clip-3" in opened.splits.test.ids
    assert "eleven" in opened.splits.test.class_names
    assert opened.skipped == []


def test_a_split_without_validation_rows_takes_them_from_train(tmp_path, capsys):
    rows = [{**row, "split": "test" if number % 6 == 0 else "train"} for number, row in enumerate(make_rows(tmp_path))]
    write_table(tmp_path, rows)
    opened = open_run(train(write_run(tmp_path)))
    assert "no validation rows: 6 were taken from train" in capsys.readouterr().err
    assert [len(part) for part in (opened.splits.train, opened.splits.validation, opened.splits.test)] == [44, 6, 10]


def test_vectors_with_nan_or_of_another_size_are_found(tmp_path):
    random = np.random.default_rng(0)
    vectors = [random.standard_normal(4).tolist() for _ in range(40)]
    vectors[2][1], vectors[5] = float("nan"), [1.0, 2.0]
    numbers = [float(number) for number in range(40)]
    numbers[9] = float("inf")
    pq.write_table(pa.table({"sensor": vectors, "weight": numbers}), tmp_path / "clips.parquet")
    (tmp_path / "run.yaml").write_text("""
manifest: clips.parquet
out: runs/sensors
modalities:
  sensor: {column: sensor, kind: vector, encoder: mlp}
  weight: {column: weight, kind: number, encoder: mlp}
model: {dim: 8}
train: {epochs: 1, batch_size: 8}
""")
    with pytest.raises(ValueError) as caught:
        train(tmp_path / "run.yaml", progress=False)
    for place in ("3 of 40 rows", "row 2 (id 2), column 'sensor'", "row 5 (id 5), column 'sensor'", "row 9 (id 9)"):
        assert place in str(caught.value), place
    opened = open_run(train(tmp_path / "run.yaml", ["data.on_error=skip"], progress=False))
    assert opened.readers["sensor"].settings == {"kind": "vector", "dim": 4}
    assert opened.model.plan.modalities == ("sensor", "weight")


@pytest.mark.parametrize(
    "sets, message",
    [
        (["modalities.image.column=imgae"], "image.column: .*column 'imgae' is not known; did you mean 'image'"),
        (["modalities.image.encoder=tokens"], "modalities.image: encoder 'tokens' reads text, not image"),
        (["modalities.image.encoder=cnov"], "modalities.image: encoder 'cnov' is not known"),
        (["modalities.image.encoder.chanels=[4]"], "modalities.image: .*'chanels'.*did you mean 'channels'"),
        (["modalities.image.encoder={kind: sequence, out_dim: 4}"], "modalities.image: "),
        (["modalities.image.reader={kind: mel}"], "modalities.image: .*reads audio, not image"),
        (["modalities.image.kind=vector", "modalities.image.encoder=mlp"], "modalities.image: "),
        (["modalities.text.encoder.vocab_size=2"], "modalities.text: TokenEncoder cannot read what its reader 'words'"),
        (["data.group=group"], "data.group: .* has no column 'group'"),
        (["train.batch_size=49"], "train has 48 rows"),
        (["data.gaps=drop", "train.batch_size=48"], r"that have every modality \(data.gaps: drop\)"),
    ],
)  # fmt: skip
def test_settings_are_checked_before_files_are_opened(tmp_path, sets, message):
    write_table(tmp_path, make_rows(tmp_path))
    with pytest.raises(ValueError, match=message):
        train(write_run(tmp_path), sets, progress=False)
    assert not (tmp_path / "runs" / "cache").exists()


def test_a_term_that_no_row_completes_is_named(tmp_path):
    rows = make_rows(tmp_path, gaps=False)
    for number, row in enumerate(rows):
        row["audio" if number % 2 else "text"] = ""
    write_table(tmp_path, rows)
    with pytest.raises(ValueError, match="the term 'audio ~ text' cannot be learned: 0 training rows have all of it"):
        train(write_run(tmp_path), progress=False)
    sets = ["plan.terms={image ~ audio: 1, image ~ text: 1}", "train.epochs=1"]
    train(tmp_path / "run.yaml", sets, progress=False)


def test_check_lists_problems_of_manifest_and_run_file(broken):
    # A text of spaces is a missing cell, but not for a run file that does not say `data.missing`.
    for address, rows in {broken / "clips.csv": {3, 5, 7, 10}, write_run(broken): {3, 5, 7, 8, 10}}.items():
        found = check(address, broken / "out", progress=False)
        assert not found.sound
        assert {problem.row for problem in found.problems.broken} == rows
        assert found.listed == broken / "out" / "problems.csv"
        assert found.problems.to_rich().row_count == len(rows)
        assert found.coverage.rows == 60
    rows = make_rows(broken / "sound")
    found = check(write_table(broken / "sound", rows), broken / "sound", progress=False)
    assert found.sound
    assert found.listed is None


def test_addresses_that_may_not_be_followed_are_listed(tmp_path):
    """No cell of the column can be opened, which is no reason to leave it out."""
    table = {"photo": [f"https://example.org/{i}.jpg?w=200" for i in range(30)], "say": [f"a {i}" for i in range(30)]}
    pq.write_table(pa.table(table), tmp_path / "clips.parquet")
    found = check(tmp_path / "clips.parquet", tmp_path, progress=False)
    assert not found.sound and {one.column for one in found.problems.broken} == {"photo"}
    assert len(found.problems.broken) == 30 and "names a file system of its own" in found.problems.broken[0].what


def test_cells_that_show_nothing_are_told_each_time(tmp_path, capsys):
    """They can be read, and are used; the second time they come from the cache."""
    rows = make_rows(tmp_path, 60)
    for row in (3, 11):
        PIL.Image.new("RGB", (16, 16)).save(tmp_path / rows[row]["image"])
    soundfile.write(tmp_path / rows[5]["audio"], np.zeros(8000), 8000)
    write_table(tmp_path, rows)
    run = write_run(tmp_path)
    for _ in range(2):
        found = check(run, tmp_path, progress=False)
        assert found.sound
        flat, silent = (next(note for note in found.notes if note.startswith(name)) for name in ("image", "audio"))
        assert flat.endswith("shows nothing: its pixels are all nearly alike as the model gets them; rows 3, 11")
        assert "1 of " in silent and "is silent" in silent and silent.endswith("rows 5")


def test_addresses_that_may_not_be_followed_are_named_at_once(tmp_path):
    rows = [{"photo": f"https://a.org/{n}.png?w=2", "text": f"a {n}"} for n in range(20)]
    made = init(write_table(tmp_path, rows), tmp_path / "run.yaml")
    assert any("20 of 20 cells of 'photo'" in note and "--allow-outside" in note for note in made.notes)
    with pytest.raises(ValueError, match=r"photo: none of its cells can be read: row \d+ .*--allow-outside"):
        check(tmp_path / "run.yaml", progress=False)
