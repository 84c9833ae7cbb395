"""Run files: what they may say, and how every mistake in them is told."""

import pytest
from torch import nn

from confu.runs.run_file import RunFile, check_run, is_taken, run_plan
from confu.runs.run_yaml import read_run_file, with_sets, write_run_file
from confu.training import TrainSettings
from runs.own_data import RUN, write_run


def mistakes(folder, text, sets=()):
    with pytest.raises(ValueError) as caught:
        read_run_file(write_run(folder, text), sets)
    return str(caught.value)


def test_run_file_paths_are_relative_to_its_folder(tmp_path):
    run = read_run_file(write_run(tmp_path))
    assert run.manifest == str(tmp_path / "clips.csv")
    assert run.out == str(tmp_path / "runs" / "clips")
    assert run.train == TrainSettings(epochs=2, batch_size=16, lr=1e-3)
    assert run.data.gaps == "mask"


def test_run_file_reports_all_mistakes_with_lines(tmp_path):
    text = """manifest: clips.csv
out: runs/clips
modalities:
  image: {colum: image, kind: imag, encoder: conv}
  text:
    column: text
    kind: text
    encoder: 5
  sound: 3
trian: {}
train:
  epochs: many
  batch_size: 2.5
  precison: x
  min_lr: yes
data: {shares: [0.5, 0.5], cache: true, workers: "3"}
"""
    found = mistakes(tmp_path, text)
    assert "13 mistakes" in found.splitlines()[0]
    for line in (
        "line 4, modalities.image.column: is missing",
        "line 4, modalities.image.colum: unknown key; did you mean 'column'?",
        "did you mean 'image'?",
        "line 8, modalities.text.encoder: expected a name",
        "line 9, modalities.sound: expected settings by name; got 3",
        "line 10, trian: unknown key; did you mean 'train'?",
        "line 12, train.epochs: expected a whole number; got 'many'",
        "line 13, train.batch_size: expected a whole number; got 2.5",
        "line 14, train.precison: unknown key; did you mean 'precision'?",
        "line 15, train.min_lr: expected a number; got 'yes'",
        "line 16, data.shares: expected three shares",
        "line 16, data.cache: expected a folder",
        "line 16, data.workers: expected a whole number; got '3'",
    ):
        assert line in found, line


def test_run_file_without_columns_says_what_is_missing(tmp_path):
    text = "manifest: a.csv\nout: runs\nmodalities:\n  image:\n    kind: image\n    encoder: conv\n"
    found = mistakes(tmp_path, text)
    assert "line 4, modalities.image.column: is missing" in found
    assert "modalities: is missing" in mistakes(tmp_path, "manifest: a.csv\nout: runs\n")


@pytest.mark.parametrize(
    "sets, message",
    [
        (["method=cofu"], "method 'cofu' is not known; did you mean 'confu'"),
        (["plan.kind=confu", "plan.max_order=2"], "plan.max_order: goes with kind disjoint"),
        (["plan.terms={image ~ text: 1}"], "no term trains audio"),
        (["plan.terms={image ~ txt: 1}"], "'txt'"),
        (["data.group=txt"], "expected 'group' .* or a text modality \\(text\\)"),
        (["loss.same_group=positives"], "loss.same_group: needs data.group"),
        (["train.sampling=unique"], "train.sampling: needs data.group"),
        (["data.group=text", "method=symile", "loss.same_group=excluded"], "symile takes all other rows as negatives"),
        (["method=gram", "loss.equal_inputs=excluded"], "gram takes all other rows as negatives.* Set it to negatives"),
        (["method=gram", "plan.kind=confu"], "gram compares single modalities, but the plan has"),
        (["method=gram", "model.fusion=mlp"], "gram has no fusion networks"),
        (["data.gaps=drop", "train.sampling=balanced"], "no gaps to balance"),
        (["modalities.a~b={column: x, kind: image, encoder: conv}"], "may not hold"),
        (["modalities.type={column: x, kind: image, encoder: conv}"], "'type_input'"),
        (["train.min_lr=1"], "train: min_lr 1.* is above lr"),
        (["train.lr=-1"], "train.lr: expected greater than 0; got -1"),
        (["train.epochs=true"], "train.epochs: expected a whole number; got True"),
        (["train.precision=float16"], "train.precision: expected 'float32', 'bfloat16' or 'auto'; got 'float16'"),
        (["train.lr.x=3"], "train.lr is 0.001 and has no settings of its own"),
        (["trian.lr=3"], "--set trian: unknown key; did you mean 'train'"),
        (["train.lr"], "write NAME=VALUE"),
        (["train.lr=[1"], "--set train.lr.*not valid YAML"),
    ],
)
def test_run_file_refuses_what_cannot_be(tmp_path, sets, message):
    write_run(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_run_file(tmp_path / "run.yaml", sets)


def test_mistakes_of_the_file_and_of_sets_are_told_together(tmp_path):
    found = mistakes(tmp_path, RUN + "metod: confu\n", ["train.epoch=3", "bad"])
    assert "3 mistakes" in found
    assert "metod: unknown key; did you mean 'method'?" in found
    assert "--set train.epoch: unknown key; did you mean 'epochs'?" in found


def test_sets_are_typed_as_in_the_file(tmp_path):
    path = write_run(tmp_path)
    sets = ["train.lr=1e-4", "data.shares=[0.6, 0.2, 0.2]", "modalities.image.encoder=resnet", "plan={kind: pairwise}",
            "loss.learned=true", "seed=3", "data.cache=../cache"]  # fmt: skip
    run = read_run_file(path, sets)
    assert run.train.lr == 1e-4
    assert run.data.shares == [0.6, 0.2, 0.2]
    assert run.modalities["image"].encoder == "resnet"
    assert run.plan.kind == "pairwise"
    assert run.loss.learned is True
    assert (run.seed, run.train.seed) == (3, 3)
    assert run.data.cache == str(tmp_path.parent / "cache")
    assert with_sets(read_run_file(path), ["train.lr=1e-4"]).train.lr == 1e-4


def test_run_file_that_is_written_is_read_back_wherever_it_lies(tmp_path):
    run = read_run_file(write_run(tmp_path), ["modalities.image.encoder=./nets/mine", "data.cache=cache"])
    write_run_file(run, tmp_path / "runs" / "clips" / "run.yaml")
    assert read_run_file(tmp_path / "runs" / "clips" / "run.yaml") == run
    assert str(tmp_path) not in (tmp_path / "runs" / "clips" / "run.yaml").read_text()


def test_run_files_that_are_no_run_files_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="there is no such run file; `confu init MANIFEST`"):
        read_run_file(tmp_path / "none.yaml")
    assert "expected settings by name" in mistakes(tmp_path, "- a\n")
    (tmp_path / "run.yaml").write_bytes(b"manifest: \xff")
    with pytest.raises(ValueError, match="UTF-8 text; byte 10 is not"):
        read_run_file(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    "names, changes, terms",
    [
        (("a", "b"), {}, 1),
        (("a", "b", "c"), {}, 6),
        (("a", "b", "c", "d"), {}, 21),
        (("a", "b", "c", "d"), {"kind": "disjoint"}, 25),
        (("a", "b", "c", "d"), {"kind": "target", "target": "b"}, 7),
        (("a", "b", "c"), {"kind": "pairwise"}, 3),
        (("a", "b", "c"), {"terms": {"a ~ b": 1.0, "a+b ~ c": 0.5}}, 2),
    ],
)
def test_default_plans_by_number_of_modalities(names, changes, terms):
    modality = {"column": "x", "kind": "vector", "encoder": "mlp"}
    run = RunFile.model_validate(
        {"manifest": "m", "out": "o", "modalities": dict.fromkeys(names, modality), "plan": changes}
    )
    check_run(run)
    assert len(run_plan(run).terms) == terms


def test_plan_of_a_method_without_fusion_is_the_pairs():
    modality = {"column": "x", "kind": "vector", "encoder": "mlp"}
    run = RunFile.model_validate(
        {"manifest": "m", "out": "o", "method": "gram", "modalities": dict.fromkeys("abc", modality)}
    )
    assert not run_plan(run).fused_subsets
    with pytest.raises(ValueError, match="this run cannot be:\n  modalities: at least two"):
        check_run(run.model_copy(update={"modalities": {}}))


def test_taken_names_are_those_of_torch():
    # Other libraries add methods of their own to torch's modules while they are imported.
    methods = {name: getattr(nn.ModuleDict, name) for name in dir(nn.ModuleDict) if not name.startswith("_")}
    names = [name for name, method in methods.items() if getattr(method, "__module__", "torch").startswith("torch")]
    names += [name for name in vars(nn.ModuleDict()) if not name.startswith("_")]
    assert [name for name in names if not is_taken(name)] == []
    assert is_taken("_buffers") and not is_taken("_image")
