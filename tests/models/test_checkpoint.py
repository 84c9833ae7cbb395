"""Saved models come back bitwise; files that are damaged, foreign or half there are refused; nothing is executed."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from confu.models import MultimodalModel, checkpoint, load_model, load_weights, save_model
from confu.nn.encoders import MLPEncoder, build_encoder
from confu.plan import Plan, confu_plan, pairwise_plan
from confu.types import Batch, Inputs
from models.parts import NAMES, dataset, encoders, model

IMAGES = torch.randn(5, 1, 12, 12)
MLP = {"kind": "mlp", "in_dim": 144, "hidden_dims": [6], "out_dim": 4, "dropout": 0.2}
BERT = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 16}
# One with running statistics, one pretrained in part, one inside another; the contract tests rebuild every kind.
KINDS = {
    "conv": ({"kind": "conv", "channels": [4, 6], "out_dim": 4}, IMAGES),
    "transformers": (
        {"kind": "transformers", "config": {"model_type": "bert", **BERT}, "out_dim": 4, "tune": "last:1"},
        {"input_ids": torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]])},
    ),
    "frames": ({"kind": "frames", "encoder": {"kind": "conv", "channels": [4], "out_dim": 4}}, IMAGES.unsqueeze(1)),
    "custom": ({"kind": "custom", "function": "own_encoders:wing", "arguments": {"width": 4, "in_dim": 144}}, IMAGES),
}


def same_embeddings(one, other, batch):
    first, second = one.eval()(batch), other.eval()(batch)
    return list(first) == list(second) and all(torch.equal(first[subset], second[subset]) for subset in first)


def weights_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_come_back_bitwise(kind, tmp_path):
    if kind == "transformers":
        pytest.importorskip("transformers")
    settings, values = KINDS[kind]
    torch.manual_seed(1)
    plan = Plan.parse({"x ~ other": 1 / 3, "x ~ other+third": 0.1})
    built = {"x": build_encoder(settings), "other": build_encoder(MLP), "third": build_encoder(MLP)}
    net = MultimodalModel(plan, built, dim=6, fusion_dim=7)
    rows = torch.arange(5)
    batch = Batch(
        {"x": Inputs(values, rows), "other": Inputs(IMAGES, rows), "third": Inputs(IMAGES, rows)}, list("abcde")
    )
    net.train()(batch)  # moves the running statistics of a BatchNorm
    save_model(net, tmp_path / "new" / "folder")
    torch.manual_seed(2)
    loaded = load_model(tmp_path / "new" / "folder", allow_custom=kind == "custom")
    assert not loaded.training
    assert same_embeddings(net, loaded, batch)
    assert loaded.plan == net.plan
    assert loaded.settings == net.settings
    assert loaded.encoders["x"].settings == net.encoders["x"].settings


@pytest.mark.parametrize("fusion", ["mlp", "released", "bilinear", "shared"])
def test_every_fusion_kind_comes_back_bitwise(fusion, tmp_path):
    net = model(fusion=fusion, mask_ratio=0.25)
    save_model(net, tmp_path)
    loaded = load_model(tmp_path)
    assert same_embeddings(net, loaded, dataset().batch(torch.arange(12)))
    assert loaded.settings == {
        "dim": 7,
        "fusion": fusion,
        "fusion_dim": 9,
        "mask_ratio": 0.25,
        "fusion_depth": 1,
        "score": "cosine",
    }


class Own(nn.Module):
    """An encoder that confu knows nothing of."""

    out_dim = 5

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 5))

    def forward(self, values):
        return values @ self.weight


def test_an_encoder_of_ones_own_is_given_when_loading(tmp_path):
    net = MultimodalModel(confu_plan(NAMES), {**encoders(), "image": Own()}, dim=7)
    save_model(net, tmp_path)
    with pytest.raises(ValueError, match=r"the encoder of 'image' is not one of confu's own; give it as load_model"):
        load_model(tmp_path)
    loaded = load_model(tmp_path, encoders={"image": Own()})
    assert same_embeddings(net, loaded, dataset().batch(torch.arange(12)))
    with pytest.raises(ValueError, match="encoder of modality 'imgae' is not known; did you mean 'image'"):
        load_model(tmp_path, encoders={"image": Own(), "imgae": Own()})


class Doubled(MLPEncoder):
    """A subclass has the settings of its base, which would not rebuild it."""

    def forward(self, values):
        return 2 * super().forward(values)


class Strange(Own):
    settings = {"anything": Path()}  # noqa: RUF012


@pytest.mark.parametrize("make", [lambda: Doubled(6, [8], 5), Strange])
def test_settings_that_do_not_rebuild_an_encoder_are_not_trusted(make, tmp_path):
    net = MultimodalModel(confu_plan(NAMES), {**encoders(), "image": make()}, dim=7)
    save_model(net, tmp_path)
    with pytest.raises(ValueError, match="the encoder of 'image' is not one of confu's own"):
        load_model(tmp_path)
    loaded = load_model(tmp_path, encoders={"image": make()})
    assert same_embeddings(net, loaded, dataset().batch(torch.arange(12)))


def test_the_best_model_of_a_run_folder_is_loaded(tmp_path):
    net = model()
    save_model(net, tmp_path / "best")
    assert same_embeddings(net, load_model(tmp_path), dataset().batch(torch.arange(12)))


def test_saving_again_replaces_the_model_and_leaves_two_files(tmp_path):
    save_model(model(seed=0), tmp_path)
    other = model(Plan.parse(["image ~ text"]), seed=1)
    save_model(other, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert same_embeddings(other, load_model(tmp_path), dataset().batch(torch.arange(12)))


@pytest.mark.parametrize("where", ["os.replace", "save_file", "json.dumps"])
def test_a_failed_save_leaves_the_old_model_whole(where, tmp_path, monkeypatch):
    old = model(seed=0)
    save_model(old, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def half(_weights, file, **_):
        Path(file).write_bytes(b"half of the wei")
        raise OSError("No space left on device")

    def fail(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half) if where == "save_file" else patch.setattr(where, fail)
        with pytest.raises(OSError, match="No space left"):
            save_model(model(seed=1), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert same_embeddings(old, load_model(tmp_path), dataset().batch(torch.arange(12)))


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_weights_leave_the_model_as_it_was(keep, tmp_path):
    save_model(model(seed=0), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file .*train again"):
        load_model(tmp_path)
    net = model(seed=1)
    before = weights_of(net)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_weights(net, file)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("write", ["pickle", "torch"])
def test_nothing_in_the_files_is_executed(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(model(), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    if write == "pickle":
        file.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"weight": Bomb()}, file)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_model(tmp_path / "m")
    assert not Path("executed").exists()
    with pytest.raises(ValueError, match=r"encoder kind 'os\.system' is not known"):
        description = json.loads((tmp_path / "m" / "model.json").read_text())
        description["encoders"]["image"] = {"kind": "os.system", "command": "touch executed"}
        (tmp_path / "m" / "model.json").write_text(json.dumps(description))
        load_model(tmp_path / "m")
    assert not Path("executed").exists()


def test_weights_of_another_plan_are_refused_with_both_plans(tmp_path):
    save_model(model(), tmp_path / "a")
    save_model(model(Plan.parse(["image ~ audio", "audio ~ text"], NAMES)), tmp_path / "b")
    save_model(model(confu_plan(NAMES, 0.25)), tmp_path / "c")
    net = load_model(tmp_path / "a")
    before = weights_of(net)
    for other in "bc":  # c differs in its weights only
        with pytest.raises(ValueError, match=r"(?s)another plan.*In the file:.*Of the model:.*Build the model"):
            load_weights(net, tmp_path / other / "model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")  # mixed-up files
    with pytest.raises(ValueError, match="another plan"):
        load_model(tmp_path / "a")


def test_weights_of_other_sizes_or_parts_are_refused_and_named(tmp_path):
    save_model(model(dim=8), tmp_path)
    net = model(dim=7)
    with pytest.raises(ValueError, match=r"projections.audio.weight: \(8, 6\) in the file, \(7, 6\) in the model"):
        load_weights(net, tmp_path / "model.safetensors")
    renamed = weights_of(net)
    renamed["projections.image.wait"] = renamed.pop("projections.image.weight")
    save_file(renamed, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"(?s)image.wait: \(7, 5\) in the file, nothing in the model.*nothing in the file"
    ):
        load_weights(net, tmp_path / "other.safetensors")


def test_missing_and_wrong_descriptions_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.json: not found; expected a folder written by save_model"):
        load_model(tmp_path / "nowhere")
    save_model(model(), tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())

    def refused(text, match):
        (tmp_path / "model.json").write_bytes(text)
        with pytest.raises(ValueError, match=match):
            load_model(tmp_path)

    refused(b'{"format": 1, "pl', r"model\.json: not valid JSON")
    refused(b"\xff\xfe\x00", r"model\.json: not valid JSON")
    refused(b"[1, 2]", "format None, but this version of confu reads format 1")
    refused(json.dumps({**description, "format": 2}).encode(), "format 2, but this version of confu reads format 1")
    refused(json.dumps({k: v for k, v in description.items() if k != "encoders"}).encode(), "lacks encoders")
    (tmp_path / "model.json").write_text(json.dumps(description))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: no such weights file"):
        load_model(tmp_path)


def test_files_of_two_models_of_one_plan_are_not_mixed(tmp_path):
    """Same plan, same sizes, another setting: only the description that the weights carry can tell."""
    plan = pairwise_plan(("a", "b"))
    for folder, mask_ratio in (("one", 0.0), ("two", 0.5)):
        encoders = {name: MLPEncoder(4, [8], 8) for name in plan.modalities}
        save_model(MultimodalModel(plan, encoders, dim=4, mask_ratio=mask_ratio), tmp_path / folder)
    (tmp_path / "one" / "model.json").write_bytes((tmp_path / "two" / "model.json").read_bytes())
    with pytest.raises(ValueError, match=r"was not saved together with this model\.json"):
        load_model(tmp_path / "one")
