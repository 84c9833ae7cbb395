"""Encoders that a function of the user's builds, and an image encoder over frames."""

import pytest
import torch

from confu.nn.encoders import ConvEncoder, CustomEncoder, FramesEncoder, build_encoder, custom_functions, settings_of
from own_encoders import Wing


def custom(function, **arguments):
    return build_encoder({"kind": "custom", "function": function, "arguments": arguments})


def test_the_function_is_called_with_the_arguments():
    encoder = custom("own_encoders:wing", width=3, in_dim=5)
    assert isinstance(encoder.module, Wing)
    assert (encoder.out_dim, encoder.frozen, encoder.feature_dim, encoder.reader) == (3, False, None, None)
    assert encoder.settings == {
        "kind": "custom", "function": "own_encoders:wing", "arguments": {"width": 3, "in_dim": 5},
    }  # fmt: skip
    assert settings_of(encoder) == encoder.settings
    assert custom("own_encoders:Wing", width=2).out_dim == 2  # a class is called likewise


def test_a_frozen_one_may_have_its_features_computed_before():
    encoder, values = custom("own_encoders:frozen_wing"), torch.randn(3, 4)
    assert (encoder.frozen, encoder.feature_dim, encoder.reader) == (True, 8, {"kind": "vector", "dim": 4})
    features = encoder.features(values)
    assert torch.equal(encoder(features=features), encoder(values))
    with pytest.raises(ValueError, match=r"features must be \(batch, 8\)"):
        encoder(features=features[:, 1:])
    with pytest.raises(ValueError, match="has no `features` to compute once"):
        CustomEncoder("a:b", module=ConvEncoder()).features(values)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("own_encoders.wing", {}, r"must be written 'package\.module:name'; got 'own_encoders\.wing'"),
        ("own encoders:wing", {}, "must be written"),
        ("own_encoders:wing()", {}, "must be written"),
        ("no_such_package.nets:wing", {}, "no module named 'no_such_package'; install the package, or set PYTHONPATH"),
        ("own_encoders.nets:wing", {}, r"no module named 'own_encoders\.nets'"),
        ("own_encoders:claw", {}, "must be a function or a class; the module has nothing of that name"),
        ("own_encoders:number", {}, "must be a function or a class; the module holds a int there"),
        ("own_encoders:wing", {}, r"cannot be called with the arguments \[\]: missing a required argument: 'width'"),
        ("own_encoders:wing", {"width": 2, "wide": 3}, r"arguments \['wide', 'width'\]: got an unexpected"),
        ("own_encoders:stone", {}, r"must give a torch\.nn\.Module; got int"),
        ("own_encoders:feather", {}, r"\(Linear\) must say the size of its features .*`out_dim`.*got None"),
        ("own_encoders:wing", {"width": {1, 2}}, "must be what JSON can hold; Object of type set"),
    ],
)
def test_what_is_wrong_with_a_function_is_said(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        CustomEncoder(function, arguments)


def test_what_a_module_of_the_users_lacks_is_theirs_to_read(tmp_path, monkeypatch):
    (tmp_path / "lacking_nets.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        CustomEncoder("lacking_nets:wing")


def test_a_module_that_is_given_keeps_its_function_from_running():
    encoder = CustomEncoder("no_such_package.nets:wing", {"width": 3}, module=Wing(3))
    assert encoder.settings["arguments"] == {"width": 3}
    with pytest.raises(ValueError, match=r"must give a torch\.nn\.Module; got str"):
        build_encoder({"kind": "custom", "function": "own_encoders:wing", "module": "os.system"})


def test_the_functions_that_settings_would_run():
    inner = {"kind": "custom", "function": "a.b:c"}
    assert custom_functions(inner) == ["a.b:c"]
    assert custom_functions({"kind": "frames", "encoder": {"kind": "frames", "encoder": inner}}) == ["a.b:c"]
    assert custom_functions({"kind": "conv"}) == custom_functions(None) == []


def test_frames_are_encoded_one_by_one_and_averaged():
    encoder = build_encoder({"kind": "frames", "encoder": {"kind": "conv", "in_channels": 3, "out_dim": 4}}).eval()
    videos = torch.randn(2, 5, 3, 16, 16)
    expected = torch.stack([torch.stack([encoder.encoder(x[None])[0] for x in video]).mean(0) for video in videos])
    torch.testing.assert_close(encoder(videos), expected, atol=1e-5, rtol=1e-4)
    assert (encoder.frozen, encoder.feature_dim, encoder.reader) == (False, None, None)
    for bad in (torch.zeros(2, 3, 16, 16), torch.zeros(2, 0, 3, 16, 16)):
        with pytest.raises(ValueError, match=r"values must be \(batch, frames, channels, height, width\) with"):
            encoder(bad)


def test_frames_take_on_what_their_encoder_says():
    image = build_encoder({"kind": "efficientnet-lite0", "pretrained": False, "size": 64, "out_dim": 4})
    encoder = FramesEncoder(image, frames=3)
    assert encoder.frozen
    assert encoder.reader == {**image.reader, "kind": "video", "frames": 3}
    videos = torch.randn(2, 3, 3, 20, 20)
    features = encoder.features(videos)
    torch.testing.assert_close(features, image.features(videos.flatten(0, 1)).view(2, 3, 1280).mean(1))
    torch.testing.assert_close(encoder(features=features), encoder(videos), atol=1e-5, rtol=1e-4)


def test_frames_of_a_stranger_are_not_rebuilt_from_settings():
    assert settings_of(FramesEncoder(Wing(3))) is None
    assert settings_of(FramesEncoder(ConvEncoder())) is not None
    with pytest.raises(ValueError, match="encoder kind 'wing' is not known"):
        build_encoder({"kind": "frames", "encoder": {"kind": "wing"}})
