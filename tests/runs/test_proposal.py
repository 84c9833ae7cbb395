"""What `init` proposes for a table: kinds, encoders, plan, groups, sizes; and the run file trains as it is."""

import re
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import confu.runs.proposal
from confu.cli import app
from confu.nn.encoders.registry import MINILM
from confu.runs.checking import check
from confu.runs.prepare import open_manifest, open_run
from confu.runs.proposal import init, training_size
from confu.runs.rows import PARTS, assign_rows, check_sizes
from confu.runs.run_yaml import read_run_file
from confu.runs.training import train
from runs.own_data import make_rows, write_table


def test_from_a_table_to_a_trained_model_in_two_calls(tmp_path):
    rows = make_rows(tmp_path / "data")
    found = init(write_table(tmp_path / "data", rows), tmp_path / "run.yaml", dim=16)
    assert {name: modality.kind for name, modality in found.run.modalities.items()} == {
        "image": "image", "audio": "audio", "text": "text"
    }  # fmt: skip
    assert found.run.modalities["image"].reader == {"kind": "image", "size": 12, "channels": 1, "scale": "standard"}
    audio = found.run.modalities["audio"].reader
    assert (audio["rate"], audio["scale"], audio["clip"]) == (8000, "standard", 5)
    assert found.coverage.complete("image+audio+text") == sum(bool(row["audio"] and row["text"]) for row in rows)
    assert len(found.plan.terms) == 6
    assert found.run.manifest == str(tmp_path / "data" / "clips.csv")
    folder = train(found.file, ["train.epochs=2"], progress=False)
    assert folder == tmp_path / "runs" / "clips"
    opened = open_run(folder)
    assert opened.model(opened.splits.test.batch(torch.arange(6)))["image+text"].shape == (6, 16)


def test_run_file_of_init_teaches_and_is_what_it_says(tmp_path):
    found = init(write_table(tmp_path, make_rows(tmp_path)), tmp_path / "run.yaml")
    assert read_run_file(tmp_path / "run.yaml") == found.run
    assert (tmp_path / "run.yaml").read_text() == found.text
    for words in ("confu train run.yaml", "Rows that have:", "label holds 10 classes", "skip: broken rows are set",
                  "pretrained: minilm", "6 terms, 3 fusion networks", "passes over"):  # fmt: skip
        assert words in found.text, words
    assert max(map(len, found.text.splitlines())) <= 130
    assert str(tmp_path) not in found.text
    with pytest.raises(ValueError, match=r"run\.yaml is there already; give another name, or --overwrite"):
        init(tmp_path / "clips.csv", tmp_path / "run.yaml")
    init(tmp_path / "clips.csv", tmp_path / "run.yaml", overwrite=True)


def test_every_kind_of_column_gets_an_encoder_that_trains(tmp_path):
    random = np.random.default_rng(0)
    count = 40
    table = {
        "sensor": [random.standard_normal(5).tolist() for _ in range(count)],
        "gait": [random.standard_normal((int(random.integers(2, 6)), 3)).tolist() for _ in range(count)],
        "age": [int(random.integers(20, 90)) for _ in range(count)],
        "note": [f"patient {number} walks" for number in range(count)],
        "empty": pa.nulls(count, pa.string()),
        "mass": [None if number % 2 else float(number) for number in range(count)],
    }
    pq.write_table(pa.table(table), tmp_path / "gait.parquet")
    found = init(tmp_path / "gait.parquet", tmp_path / "run.yaml", dim=8)
    assert {name: modality.kind for name, modality in found.run.modalities.items()} == {
        "sensor": "vector", "gait": "sequence", "note": "text", "numbers": "table"
    }  # fmt: skip
    assert found.run.modalities["numbers"].column == "age+mass"
    assert found.unused == {"empty": "every cell is empty"}
    assert "# not used: 'empty', every cell is empty" in found.text
    assert found.run.plan.kind == "disjoint"
    assert found.run.plan.max_order == 2
    opened = open_run(train(tmp_path / "run.yaml", ["train.epochs=1"], progress=False))
    assert opened.readers["sensor"].settings["dim"] == 5
    assert opened.readers["gait"].settings["dim"] == 3


def test_long_sequences_get_patches_and_a_limit(tmp_path, monkeypatch):
    def proposed(steps):
        rows = [np.random.default_rng(i).normal(size=(1 if i % 2 else steps, 2)).tolist() for i in range(8)]
        pq.write_table(pa.table({"s": rows, "t": [f"row {i}" for i in range(8)]}), tmp_path / "s.parquet")
        found = init(tmp_path / "s.parquet", tmp_path / "run.yaml", overwrite=True)
        modality = found.run.modalities["s"]
        return (
            modality.encoder.get("patch"),
            modality.reader["max_steps"],
            [note for note in found.notes if "cut" in note],
        )

    assert proposed(32) == (None, 64, [])
    assert proposed(1000) == (8, 2048, [])
    monkeypatch.setattr(confu.runs.proposal, "_MOST_STEPS", 512)
    assert proposed(1000) == (
        4,
        512,
        ["Sequences in 's' have up to 1,000 steps, and are cut to 512 (reader.max_steps)."],
    )


def test_columns_can_be_chosen_and_two_are_a_pair(tmp_path):
    manifest = write_table(tmp_path, make_rows(tmp_path))
    found = init(manifest, tmp_path / "run.yaml", columns=["image", "text"])
    assert found.run.plan.kind == "pairwise"
    assert list(found.run.modalities) == ["image", "text"]
    assert found.unused == {"audio": "not among those that were asked for"}
    with pytest.raises(ValueError, match="1 column can be a modality"):
        init(manifest, tmp_path / "one.yaml", columns=["image"])
    with pytest.raises(ValueError, match="column 'imgae' is not known; did you mean 'image'"):
        init(manifest, tmp_path / "one.yaml", columns=["imgae", "text"])
    assert not (tmp_path / "one.yaml").exists()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_run_file_says_how_to_print_its_plan(tmp_path, count):
    values = [[0.0, 1.0], [1.0, 0.5], [0.5, 2.0], [1.5, 0.0]]
    pq.write_table(pa.table({f"part {number}": values for number in range(count)}), tmp_path / "rows.parquet")
    found = init(tmp_path / "rows.parquet", tmp_path / "run.yaml")
    (command,) = re.findall(r"`confu (plan .*)`", found.text)
    assert CliRunner().invoke(app, shlex.split(command)).output.strip() == str(found.plan)


def test_captions_that_repeat_stay_text_and_are_no_group(tmp_path):
    rows = [{**row, "text": f"the {row['label']}"} for row in make_rows(tmp_path)]
    found = init(write_table(tmp_path, rows), tmp_path / "run.yaml")
    assert "text" in found.run.modalities
    assert (found.run.data.group, found.run.loss.same_group) == (None, "negatives")
    assert "Only 10 of 60 texts in 'text' differ" in found.text


def vectors(count=60, **columns):
    random = np.random.default_rng(0)
    return pa.table({**{name: random.standard_normal((count, 4)).tolist() for name in "abc"}, **columns})


def test_a_word_of_two_is_a_label_and_no_modality(tmp_path):
    pq.write_table(vectors(opinion=["positive", "negative"] * 30), tmp_path / "reviews.parquet")
    found = init(tmp_path / "reviews.parquet", tmp_path / "run.yaml", dim=8)
    assert list(found.run.modalities) == ["a", "b", "c"]
    assert found.run.data.group is None
    assert found.run.data.roles.label == "opinion"
    assert "The column opinion holds 2 classes (negative, positive)" in found.text
    chosen = init(tmp_path / "reviews.parquet", tmp_path / "two.yaml", dim=8, columns=["a", "opinion"])
    assert list(chosen.run.modalities) == ["a", "opinion"]


def test_roles_are_written_down_and_may_be_given(tmp_path):
    columns = {
        "ID": [f"n{i}" for i in range(60)],
        "kind": ["x", "y", "z"] * 20,
        "Scene": [f"s{i % 6}" for i in range(60)],
    }
    pq.write_table(vectors(**columns), tmp_path / "clips.parquet")
    found = init(tmp_path / "clips.parquet", tmp_path / "run.yaml")
    assert found.run.data.roles.model_dump() == {"id": "ID", "label": None, "split": None, "group": None}
    assert set(found.unused) == {"kind", "Scene"}
    roles = {"label": "kind", "group": "Scene", "id": ""}
    found = init(tmp_path / "clips.parquet", tmp_path / "run.yaml", roles=roles, overwrite=True)
    assert found.run.data.roles.model_dump() == {"id": None, "label": "kind", "split": None, "group": "Scene"}
    assert (found.run.data.group, found.run.loss.same_group) == ("group", "excluded")
    assert open_manifest(found.run).labels == columns["kind"]
    with pytest.raises(ValueError, match=r"--label: .*column 'knd' is not known; did you mean 'kind'"):
        init(tmp_path / "clips.parquet", tmp_path / "no.yaml", roles={"label": "knd"})


@pytest.mark.parametrize(
    "columns, note",
    [
        (
            {"label": [f"c{i // 2}" if i < 4 else f"d{i}" for i in range(60)]},
            "56 of 58 classes in 'label' have one row",
        ),
        ({"label": ["x"] * 60}, "Every label in 'label' is 'x': with one class"),
        ({"label": ["NaN"] * 60}, "Every label in 'label' is missing"),
        ({"split": ["train"] * 50 + ["val"] * 10}, "No row is for the test"),
        ({"say": ["None"] * 6 + [f"a sentence of number {i}" for i in range(54)]}, "6 cells of 'say' say 'None'"),
    ],
)
def test_labels_splits_and_texts_to_look_at_are_noted(tmp_path, columns, note):
    pq.write_table(vectors(**columns), tmp_path / "clips.parquet")
    found = init(tmp_path / "clips.parquet", tmp_path / "run.yaml")
    assert any(note in text for text in found.notes), found.notes


@pytest.mark.parametrize(
    "count, parts", [(4, (2, 2, 0)), (5, (3, 2, 0)), (6, (2, 2, 2)), (11, (7, 2, 2)), (20, (16, 2, 2))]
)
def test_few_rows_are_split_and_batched_so_that_they_train(tmp_path, count, parts):
    pq.write_table(vectors(count), tmp_path / "few.parquet")
    found = init(tmp_path / "few.parquet", tmp_path / "run.yaml")
    rows = assign_rows(found.run, found.manifest)[0]
    assert tuple(len(rows.of(part)) for part in PARTS) == parts
    assert found.run.train.batch_size <= parts[0]
    check_sizes(found.run, rows)


def test_fewer_rows_than_can_be_split_are_refused(tmp_path):
    pq.write_table(vectors(3), tmp_path / "few.parquet")
    with pytest.raises(ValueError, match=r"few.parquet: holds 3 rows; at least 4 are needed"):
        init(tmp_path / "few.parquet", tmp_path / "run.yaml")
    table = vectors(30, split=["val", "test"] * 15)
    pq.write_table(table, tmp_path / "few.parquet")
    with pytest.raises(ValueError, match=r"no row is for training, by the column 'split'; .*--split COLUMN"):
        init(tmp_path / "few.parquet", tmp_path / "run.yaml")


def test_equal_rows_are_counted_and_can_be_left_out(tmp_path):
    table = vectors(30)
    pq.write_table(pa.concat_tables([table, table]), tmp_path / "twice.parquet")
    found = init(tmp_path / "twice.parquet", tmp_path / "run.yaml", dim=4)
    parts = assign_rows(found.run, found.manifest)[0].parts
    apart = sum(one != other for one, other in zip(parts[:30], parts[30:]))
    assert (
        f"30 of 60 rows are equal to an earlier one in every modality, and {apart} of these lie in another"
        in found.text
    )
    assert any("30 of 60 rows are equal" in note for note in check(found.file, tmp_path, progress=False).notes)
    found = init(tmp_path / "twice.parquet", tmp_path / "run.yaml", dim=4, dedupe=True, overwrite=True)
    manifest = open_manifest(found.run)
    assert manifest.ids == [str(row) for row in range(30)]
    assert check(found.file, tmp_path, progress=False).sound
    assert len(open_run(train(found.file, ["train.epochs=1"], progress=False)).manifest) == 30


def test_the_options_of_the_command_reach_the_run_file(tmp_path):
    rows = ["id,a,b,Tags,say", *(f"r{row},{row / 7},{row / 3},x;y,{'-' if row % 2 else 'a word'}" for row in range(40))]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    options = shlex.split("--label Tags --id '' --label-separator ';' --missing -,? --dedupe --columns a,b")
    paths = [str(tmp_path / name) for name in ("clips.csv", "run.yaml")]
    result = CliRunner().invoke(app, ["init", paths[0], "--out", paths[1], *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "20 cells of 'say' say '-', and are missing" in result.output
    data = read_run_file(paths[1]).data
    assert data.roles.model_dump() == {"id": None, "label": "Tags", "split": None, "group": None}
    assert (data.label_separator, data.missing, data.dedupe) == (";", ["-", "?"], True)
    assert open_manifest(read_run_file(paths[1])).label_sets == [("x", "y")] * 40


def test_the_run_folder_lies_where_it_was_typed(tmp_path, monkeypatch):
    pq.write_table(vectors(), tmp_path / "clips.parquet")
    (tmp_path / "pq").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert init("clips.parquet", "pq/r.yaml", folder="pq/run").run.out == str(tmp_path / "pq" / "run")
    assert init("clips.parquet", "pq/s.yaml").run.out == str(tmp_path / "pq" / "runs" / "clips")
    assert init("clips.parquet", "pq/t.yaml", folder="~/run").run.out == str(tmp_path / "home" / "run")
    assert read_run_file("pq/r.yaml", ["out=~/other"]).out == str(tmp_path / "home" / "other")
    (tmp_path / "home").mkdir()
    assert init("clips.parquet", "~/u.yaml").file == tmp_path / "home" / "u.yaml"


def test_a_group_column_keeps_groups_apart_in_the_split(tmp_path):
    rows = [{**row, "group": f"scene {number // 4}"} for number, row in enumerate(make_rows(tmp_path))]
    found = init(write_table(tmp_path, rows), tmp_path / "run.yaml", dim=8)
    assert found.run.data.group == "group"
    rows = assign_rows(found.run, found.manifest)[0]
    scenes = [{row // 4 for row in rows.of(part)} for part in PARTS]
    assert not scenes[0] & scenes[1] and not scenes[0] & scenes[2] and not scenes[1] & scenes[2]


def test_sparse_terms_ask_for_balanced_batches(tmp_path):
    rows = make_rows(tmp_path, gaps=False)
    for number, row in enumerate(rows):
        if number % 6:
            row["audio"] = ""
    found = init(write_table(tmp_path, rows), tmp_path / "run.yaml", dim=8)
    assert found.run.train.sampling == "balanced"
    assert any("Few rows are complete" in note for note in found.notes)


@pytest.mark.parametrize("rows", [2, 10, 48, 100, 1_000, 55_000, 2_000_000])
def test_training_size_fits_the_rows(rows):
    size = training_size(rows)
    assert 2 <= size["batch_size"] <= min(rows, 256)
    assert 5 <= size["epochs"] <= 100


def test_names_that_cannot_be_modalities_are_changed_not_refused(tmp_path):
    rows = [{"cam.left": row["image"], "type": row["text"], "no": row["audio"]} for row in make_rows(tmp_path)]
    found = init(write_table(tmp_path, rows), tmp_path / "run.yaml")
    assert {name: modality.column for name, modality in found.run.modalities.items()} == {
        "cam_left": "cam.left", "type_input": "type", "no": "no"
    }  # fmt: skip


def test_tables_that_no_modality_is_in_are_told_so(tmp_path):
    (tmp_path / "a.csv").write_text("id,label\na,b\n")
    with pytest.raises(ValueError, match="holds no modality"):
        init(tmp_path / "a.csv", tmp_path / "run.yaml")
    with pytest.raises(ValueError, match=re.escape("no such file")):
        init(tmp_path / "b.csv", tmp_path / "run.yaml")


def test_texts_of_many_words_get_the_sentence_encoder(tmp_path, monkeypatch):
    words = [word for word in (MINILM.locate() / "vocab.txt").read_text().split() if word.isalpha() and len(word) > 3]
    rows = [{"x": f"{row},{-row}", "text": " ".join(words[10 * row : 10 * row + 10])} for row in range(80)]
    few = [{**row, "text": f"a {words[number % 40]} bird"} for number, row in enumerate(rows)]
    foreign = [{**row, "text": row["text"][::-1]} for row in rows]

    def proposed(table, **options):
        write_table(tmp_path, table)
        made = init(tmp_path / "clips.csv", tmp_path / "run.yaml", columns=["x", "text"], overwrite=True, **options)
        return made.run.modalities["text"].encoder, [note for note in made.notes if "different words" in note]

    assert proposed(rows) == ("minilm", [])
    own = {"kind": "bag", "width": 128, "dropout": 0.2, "out_dim": 128}
    assert proposed(few) == proposed(foreign) == proposed(rows, pretrained=False) == (own, [])
    monkeypatch.setattr("confu.runs.proposal.find_spec", lambda name: None)
    encoder, (note,) = proposed(rows)
    assert encoder == own and "'text' holds 800 different words" in note and "[hf]" in note
    assert proposed(few) == (own, [])
