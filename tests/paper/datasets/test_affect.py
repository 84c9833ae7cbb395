"""From pickles in MultiBench's layout to a manifest and back, against a slow reading of the same arrays."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from confu.data.manifest import guess_columns, read_manifest
from confu_paper.datasets.affect import AFFECT, affect_facts, load_affect
from confu_paper.datasets.affect_build import build_affect
from paper.datasets.affect_fixtures import DIMS, ROWS, affect_content, write_affect

NAMES = ("vision", "audio", "text")


def built(folder, content=None, name="mosi", **arguments):
    content = affect_content(name, **arguments) if content is None else content
    return build_affect(write_affect(folder / "in" / "data.pkl", content), name, folder / "out", progress=False)


def account(file, split="train"):
    return json.loads(file.with_suffix(".json").read_text())["splits"][split]


def sequences(data, name):
    return data.columns[name].sequences


def steps_of(fields, row, name, most=50):
    """The slow reading: from the first step with a word."""
    begin = next(step for step in range(fields["text"].shape[1]) if np.any(fields["text"][row, step] != 0))
    return fields[name][row, begin:][:most]


@pytest.mark.parametrize("name", AFFECT)
def test_every_row_is_its_real_steps(name, tmp_path):
    content = affect_content(name, infinite=False)
    splits = load_affect(built(tmp_path, content, name))
    for split, data in (("train", splits.train), ("valid", splits.validation), ("test", splits.test)):
        assert len(data) == ROWS[split]
        for modality in NAMES:
            for row in range(len(data)):
                expected = torch.from_numpy(steps_of(content[split], row, modality).copy())
                assert torch.equal(sequences(data, modality)[row], expected)
        scores = content[split]["labels"].reshape(-1)
        assert data.labels.tolist() == (scores >= 0 if name in ("mosi", "mosei") else scores > 0).astype(int).tolist()
    assert len({*splits.train.ids, *splits.validation.ids, *splits.test.ids}) == sum(ROWS.values())
    facts = affect_facts(tmp_path / "out" / f"{name}.parquet")
    assert tuple(facts["dims"].values()) == DIMS[name]
    assert splits.train.class_names == tuple(facts["classes"])


def test_longer_sequences_are_cut_after_50_steps_and_counted(tmp_path):
    content = affect_content(rows={"train": 12, "valid": 4, "test": 4}, steps=60, infinite=False)
    content["train"]["text"][:, 5:] += 1  # all but five steps are words
    file = built(tmp_path, content)
    train = load_affect(file).train
    assert {len(one) for one in sequences(train, "audio")} == {50}
    assert torch.equal(sequences(train, "vision")[0], torch.from_numpy(content["train"]["vision"][0, 5:55].copy()))
    assert account(file)["longer"] == 12


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 1, 1)])
@pytest.mark.parametrize("classes", [(-1, 1), (0, 1), (-1.0, 1.0), (False, True)])
def test_labels_of_every_published_form(shape, classes, tmp_path):
    content = affect_content("mustard", infinite=False)
    expected = {}
    for split, fields in content.items():
        expected[split] = fields["labels"].reshape(-1) > 0
        fields["labels"] = np.where(expected[split], classes[1], classes[0]).reshape(shape)
    splits = load_affect(built(tmp_path, content, "mustard"))
    assert splits.train.labels.tolist() == expected["train"].astype(int).tolist()
    assert splits.test.labels.tolist() == expected["test"].astype(int).tolist()


def test_a_neutral_score_is_positive_as_in_the_released_code(tmp_path):
    content = affect_content()
    content["train"]["labels"].reshape(-1)[:3] = [0, -0.01, 3]
    assert load_affect(built(tmp_path, content)).train.labels[:3].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ur-funny", 2, r"train: 1 of 48 labels are not 0 or 1, as in UR-FUNNY; the first is 2 of row 7"),
        ("mustard", 0, r"train: 1 of 48 labels are not -1 or 1, as in MUStARD; the first is 0 of row 7"),
        ("mosi", 3.5, r"train: 1 of 48 labels are not from -3 to 3, as in MOSI; the first is 3.5 of row 7"),
        ("mosi", np.nan, r"the first is nan of row 7"),
    ],
)
def test_a_label_outside_the_known_set_is_named_and_counted(name, value, message, tmp_path):
    content = affect_content(name)
    content["train"]["labels"].reshape(-1)[7] = value
    with pytest.raises(ValueError, match=message):
        built(tmp_path, content, name)
    assert not list((tmp_path / "out").glob("*"))  # nothing is left behind


def test_minus_infinity_becomes_the_training_minimum(tmp_path):
    content = affect_content("mosi")
    train = content["train"]["audio"]
    train[0, 3, 2] = -1e6  # before the first word: no part of the data
    least = min(
        steps_of(content["train"], row, "audio")[:, 2][np.isfinite(steps_of(content["train"], row, "audio")[:, 2])].min(
            initial=np.inf
        )
        for row in range(len(train))
    )
    content["test"]["audio"][1, -2, 2] = least - 5  # a test row must not say what replaces
    file = built(tmp_path, content)
    splits = load_affect(file)
    for data, split in ((splits.train, "train"), (splits.test, "test")):
        for row in range(1, len(data), 4):
            assert sequences(data, "audio")[row][-1, 2] == pytest.approx(least)
        assert account(file, {"train": "train", "test": "test"}[split])["infinite_values"]["audio"] == len(data) // 4
    assert all(sequence.isfinite().all() for sequence in sequences(splits.train, "audio"))
    assert account(file)["infinite_steps"] == {"vision": 0, "audio": 12, "text": 0}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_nan_and_infinity_make_a_modality_missing(value, tmp_path):
    content = affect_content(infinite=False)
    content["train"]["audio"] = content["train"]["audio"].astype(np.float64)
    content["train"]["audio"][5, -1, 0] = value
    file = built(tmp_path, content)
    train = load_affect(file).train
    assert train.present["audio"].logical_not().nonzero().tolist() == [[5]]
    assert train.present["vision"].all()
    batch = train.batch(torch.tensor([4, 5]))
    assert batch.inputs["audio"].rows.tolist() == [0, -1]
    assert account(file)["missing"] == {"vision": 0, "audio": 1, "text": 0}
    (problem,) = json.loads(file.with_suffix(".json").read_text())["problems"]
    assert problem.startswith("train row 5 (id train5_0.5_2.0): audio holds NaN")


def test_nan_before_the_first_word_is_no_part_of_the_row(tmp_path):
    content = affect_content(infinite=False)
    content["train"]["audio"][0, 0, 0] = np.nan
    assert load_affect(built(tmp_path, content)).train.present["audio"].all()


def test_rows_without_text_are_left_out_and_counted(tmp_path, capsys):
    content = affect_content(infinite=False)
    content["train"]["text"][3] = 0
    for modality in NAMES:
        content["train"][modality][6] = np.nan
    content["train"]["vision"][8] = 0
    file = built(tmp_path, content)
    train = load_affect(file).train
    assert len(train) == 46
    assert not {"train3_0.5_2.0", "train6_0.5_2.0"} & set(train.ids)
    found = account(file)
    assert (found["rows"], found["without_text"], found["with_nothing"]) == (46, 1, 1)
    assert found["all_zero"] == {"vision": 1, "audio": 0, "text": 0}
    told = capsys.readouterr().err
    assert "46 train" in told and "train row 3 (id train3_0.5_2.0): no word in any step; left out" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train"].update(audio=c["train"]["audio"][:-1]), r"train: .*rows and steps.*\(47, 12, 5\)"),
        (
            lambda c: c["valid"].update(vision=c["valid"]["vision"][:, :-1]),
            "valid: .*as many rows and steps.*unaligned",
        ),
        (
            lambda c: c["train"].update(labels=c["train"]["labels"][:-1]),
            r"labels must be one number a row.*\(47, 1, 1\)",
        ),
        (lambda c: c["train"].update(labels=np.zeros((48, 2))), r"labels must be one number a row.*\(48, 2\)"),
        (lambda c: c["train"].update(labels=np.array(["x"] * 48)), "labels must be numbers; got .*x"),
        (lambda c: c["train"].update(id=c["train"]["id"][:-1]), r"id must have 48 rows"),
        (lambda c: c["train"].update(text=c["train"]["text"][0]), r"text must be an array \(rows, steps, features\)"),
        (lambda c: c["train"].update(text=c["train"]["text"].astype(object)), "text must be an array .* type object"),
        (lambda c: c["test"].update(vision=c["test"]["vision"][..., :9]), "vision must have as many features in every"),
        (lambda c: c["test"].pop("audio"), "test lacks audio, it has vision, text, labels, id"),
        (lambda c: c.pop("valid"), "expected MultiBench's layout.*got a dict of train, test"),
        (lambda c: c["test"].update({name: c["test"][name][:0] for name in c["test"]}), "test: holds no rows"),
        (lambda c: c.update(dev=c["valid"]), "it has dev too, whose rows would be lost"),
        (lambda c: c.update(test=list(c["test"].values())), "each a dict of arrays; test is of the type list"),
        (lambda c: c["train"].update(vision=[np.zeros((3, 2)), np.zeros((4, 2))]), "train: vision: its rows differ"),
        (lambda c: c["train"].update(id=[["a"], ["b", "c"]]), "train: id: its rows differ in length"),
    ],
)
def test_another_layout_is_told(change, message, tmp_path):
    content = affect_content()
    change(content)
    with pytest.raises(ValueError, match=message):
        built(tmp_path, content)


def test_a_foreign_class_or_a_cut_pickle_is_refused(tmp_path):
    content = {**affect_content(), "extra": tmp_path}
    with pytest.raises(ValueError, match=r"the pickle holds pathlib"):
        built(tmp_path, content)
    with pytest.raises(ValueError, match="a dict of train, valid, test, each a dict of arrays; got list"):
        built(tmp_path, list(affect_content().values()))
    file = write_affect(tmp_path / "cut.pkl")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.pkl: cut short"):
        build_affect(file, "mosi", tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match="did you mean 'mosi'"):
        build_affect(file, "mosy", tmp_path / "out", progress=False)


def test_ids_that_repeat_get_their_split_and_row(tmp_path):
    content = affect_content("mustard")
    for fields in content.values():
        fields["id"] = np.zeros((len(fields["id"]), 1))
    splits = load_affect(built(tmp_path, content, "mustard"))
    assert splits.train.ids[1] == "train-1-0" and splits.test.ids[0] == "test-0-0"
    for fields in content.values():
        del fields["id"]
    assert load_affect(built(tmp_path, content, "mustard")).validation.ids[2] == "validation-2"


def test_limits_take_evenly_spaced_rows(tmp_path):
    file = built(tmp_path)
    splits = load_affect(file, ("text", "vision"), limits=(12, None, 100))
    assert splits.train.modalities == ("text", "vision")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [12, 24, 24]
    assert splits.train.ids[:3] == ["train0_0.5_2.0", "train4_0.5_2.0", "train8_0.5_2.0"]
    whole = load_affect(file)
    for row in range(12):
        assert torch.equal(sequences(splits.train, "text")[row], sequences(whole.train, "text")[4 * row])


def test_padded_rows_end_in_zeros_and_have_no_mask(tmp_path):
    file = built(tmp_path)
    padded, plain = load_affect(file, padded=True).train, load_affect(file).train
    values = padded.batch(torch.arange(3)).inputs["audio"].values
    assert values.shape == (3, 50, 5)
    for row in range(3):
        own = sequences(plain, "audio")[row]
        assert torch.equal(values[row, : len(own)], own) and not values[row, len(own) :].any()


def test_row_groups_do_not_show(tmp_path, monkeypatch):
    monkeypatch.setattr("confu_paper.datasets.affect_build._CHUNK", 7)
    content = affect_content()
    content["train"]["audio"][5, -1, 0] = np.nan
    small = load_affect(built(tmp_path / "a", content))
    monkeypatch.undo()
    large = load_affect(built(tmp_path / "b", content))
    assert pq.ParquetFile(tmp_path / "a/out/mosi.parquet").num_row_groups == 7 + 4 + 4
    batches = [splits.train.batch(torch.arange(len(splits.train))) for splits in (small, large)]
    for name in NAMES:
        left, right = (batch.inputs[name] for batch in batches)
        assert torch.equal(left.values["values"], right.values["values"]) and torch.equal(left.rows, right.rows)


def test_the_manifest_is_read_as_any_other(tmp_path):
    manifest = read_manifest(built(tmp_path))
    guesses = guess_columns(manifest)
    assert {name: (guess.kind, guess.dim) for name, guess in guesses.items()} == {
        name: ("sequence", dim) for name, dim in zip(NAMES, DIMS["mosi"])
    }
    assert sorted(set(manifest.splits)) == ["test", "train", "validation"]
    assert set(manifest.labels) == {"0", "1"}


def test_what_cannot_be_loaded_says_what_to_do(tmp_path):
    write_affect(tmp_path / "mosi_data.pkl")
    with pytest.raises(ValueError, match=r"There is mosi_data.pkl.*\n  confu data affect .*mosi_data.pkl --name mosi"):
        load_affect(tmp_path / "mosi.parquet")
    file = built(tmp_path)
    with pytest.raises(ValueError, match="modality 'sound' is not known"):
        load_affect(file, ("sound",))
    with pytest.raises(ValueError, match="limits: expected three"):
        load_affect(file, limits=(0, None, None))
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    with pytest.raises(ValueError, match=r"mosi\.parquet: not readable as Parquet"):
        load_affect(file)
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    with pytest.raises(ValueError, match=r"mosi\.parquet: damaged"):
        load_affect(file)
    pq.write_table(pq.read_table(built(tmp_path / "b")).replace_schema_metadata(None), file)
    with pytest.raises(ValueError, match="not written by `confu data affect`"):
        load_affect(file)
