"""What `init` proposes for a table: kinds, encoders, plan, groups, sizes; and the run file trains as it is."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from confu.runs.prepare import open_run
from confu.runs.proposal import init, training_size
from confu.runs.rows import PARTS, assign_rows
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
        "sensor": "vector", "gait": "sequence", "age": "number", "note": "text", "mass": "number"
    }  # fmt: skip
    assert found.unused == {"empty": "every cell is empty"}
    assert "# not used: 'empty', every cell is empty" in found.text
    assert found.run.plan.kind == "disjoint"
    assert found.run.plan.max_order == 2
    opened = open_run(train(tmp_path / "run.yaml", ["train.epochs=1"], progress=False))
    assert opened.readers["sensor"].settings["dim"] == 5
    assert opened.readers["gait"].settings["dim"] == 3


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


def test_captions_that_repeat_are_proposed_as_groups(tmp_path):
    rows = [{**row, "text": f"the {row['label']}"} for row in make_rows(tmp_path)]
    found = init(write_table(tmp_path, rows), tmp_path / "run.yaml")
    assert found.run.data.group == "text"
    assert found.run.loss.same_group == "excluded"
    assert "Only 10 of 60 texts in 'text' differ" in found.text


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
