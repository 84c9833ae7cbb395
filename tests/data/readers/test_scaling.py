"""Standardising by the training rows: the numbers of scikit-learn, for every reader that does it."""

import json

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from confu.data.readers import build_reader
from confu.data.readers.reader import read_checked, reading_settings
from confu.data.readers.scaling import Scaling, scaling_of

from .fixtures import RATE, blocks, tone

NAN = float("nan")


def fitted(settings, sources):
    """A reader fitted on some sources, through its settings as JSON, and the items of these sources."""
    reader = build_reader(settings)
    items = [reader.read(source) for source in sources]
    scaling = scaling_of(reader)
    assert scaling is not None
    scale = scaling.fit(iter(items)).settings
    return build_reader(json.loads(json.dumps({**reader.settings, **scale}))), items


def test_columns_of_any_size_and_tail_agree_with_sklearn():
    random = np.random.default_rng(0)
    columns = [
        random.exponential(1, 600) ** 4,  # up to some hundreds
        0.001 * random.standard_normal(600),
        1e6 + random.standard_normal(600),  # float32 holds this to 0.06
        -1e8 + 1e4 * random.standard_normal(600),
        (random.random(600) < 0.01).astype(float),
    ]
    rows = np.stack(columns, 1).astype(np.float32)
    assert rows[:, 0].max() > 356
    reader, items = fitted({"kind": "vector", "dim": 5, "scale": "standard"}, list(rows))
    expected = StandardScaler().fit_transform(rows.astype(np.float64))
    assert np.allclose(reader.collate(items), expected, atol=1e-5, rtol=1e-5)
    cut = build_reader({**reader.settings, "clip": 5})
    assert np.allclose(cut.collate(items), expected.clip(-5, 5), atol=1e-5)
    assert float(cut.collate([cut.read([1e30, 0, 1e6, 0, 0])])[0, 0]) == 5


def test_steps_bands_and_pixels_are_standardised_by_feature():
    random = np.random.default_rng(1)
    steps = [random.normal([3.0, -50.0], [0.1, 20.0], (length, 2)) for length in (3, 9, 5)]
    reader, items = fitted({"kind": "sequence", "dim": 2, "scale": "standard"}, steps)
    batch = reader.collate(items)
    real = batch["values"][batch["mask"]]
    assert torch.allclose(real.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(real.std(0, unbiased=False), torch.ones(2), atol=1e-5)
    assert not batch["values"][~batch["mask"]].any()

    sounds = [(tone(hz) + 0.1 * random.standard_normal(4000), RATE) for hz in (200, 900, 3000)]
    mel = {"kind": "mel", "rate": RATE, "seconds": 0.5, "mels": 8, "window": 256, "hop": 128, "scale": "standard"}
    reader, items = fitted(mel, sounds)
    bands = reader.collate(items).transpose(0, 2).flatten(1)
    assert torch.allclose(bands.mean(1), torch.zeros(8), atol=1e-4)
    assert torch.allclose(bands.std(1, unbiased=False), torch.ones(8), atol=1e-4)

    pictures = [blocks(seed=seed) // (2, 1, 4) for seed in range(3)]
    pictures = [picture.astype(np.uint8) for picture in pictures]
    for kind, sources in (("image", pictures), ("video", [np.stack(pictures), np.stack(pictures[::-1])])):
        reader, items = fitted({"kind": kind, "size": 16, "scale": "standard"}, sources)
        pixels = reader.collate(items).movedim(-3, 0).flatten(1)
        assert torch.allclose(pixels.mean(1), torch.zeros(3), atol=1e-4)
        assert torch.allclose(pixels.std(1, unbiased=False), torch.ones(3), atol=1e-4)


def test_a_constant_feature_contributes_nothing():
    rows = [[0.1, 1.0], [0.1, 3.0]]
    reader, _ = fitted({"kind": "vector", "dim": 2, "scale": "standard"}, rows)
    assert scaling_of(reader).constant == [0]  # pyright: ignore[reportOptionalMemberAccess]
    assert reader.collate([reader.read([99.0, 3.0])]).tolist() == [[0.0, 1.0]]
    grey = [np.full((8, 8, 3), (7, level, 2 * level), np.uint8) for level in (10, 90)]
    picture, items = fitted({"kind": "image", "size": 8, "scale": "standard"}, grey)
    assert scaling_of(picture).constant == [0]  # pyright: ignore[reportOptionalMemberAccess]
    assert picture.collate(items)[:, 0].abs().max() == 0


def test_missing_numbers_are_the_mean_and_an_indicator():
    settings = {"kind": "vector", "dim": 2, "scale": "standard", "missing": "mean"}
    reader, items = fitted(settings, [[1.0, None], np.array([NAN, 4.0]), [3.0, 8.0]])
    assert reader.settings["scale"] == {"mean": [2.0, 6.0], "std": [1.0, 2.0]}
    assert reader.collate(items).tolist() == [[-1, 0, 0, 1], [0, -1, 1, 0], [1, 1, 0, 0]]
    assert read_checked(reader, [None, 1]).isnan().tolist() == [True, False]
    steps = build_reader({**settings, "kind": "sequence", "scale": reader.settings["scale"]})
    batch = steps.collate([steps.read([[1, 8], [None, 4]]), steps.read([[3, None]])])
    assert batch["values"].tolist() == [[[-1, 1, 0, 0], [0, -1, 1, 0]], [[1, 0, 0, 1], [0, 0, 0, 0]]]
    for source, message in (([NAN, None], "all 2 numbers are missing"), ([1.0, float("inf")], "1 of 2 numbers are")):
        with pytest.raises(ValueError, match=message):
            reader.read(source)
    refusing = build_reader({"kind": "vector", "dim": 2})
    with pytest.raises(ValueError, match=r"1 of 2 numbers are NaN.*or set the reader's `missing: mean`"):
        refusing.read([1.0, NAN])


def test_what_is_cached_depends_on_reading_alone():
    plain = build_reader({"kind": "image", "size": 8})
    scaled = build_reader({"kind": "image", "size": 8, "scale": {"mean": [0.1] * 3, "std": [0.2] * 3}})
    assert reading_settings(scaled) == plain.settings == reading_settings(plain)
    gaps = {"kind": "vector", "dim": 2, "scale": "standard", "missing": "mean"}
    assert reading_settings(build_reader(gaps)) != {"kind": "vector", "dim": 2}  # it takes what the other refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "standart"}, "scale 'standart' is not known; did you mean 'standard'"),
        ({"scale": 2}, "scale: expected 'standard', 'none', or mean and std; got 2"),
        ({"scale": {"mean": [0.0, 1.0]}}, "expected 'standard', 'none', or mean and std; got mean"),
        ({"scale": {"mean": [0.0], "std": [1.0]}}, "scale: mean: expected 2 finite numbers, one a feature"),
        ({"scale": {"mean": [0.0, 0.0], "std": [1.0, -1.0]}}, "scale: std: expected 0 .* or more; got -1"),
        ({"scale": "standard", "clip": 0}, "clip: expected a positive number"),
        ({"clip": 5}, "clip: 5 goes with scale: standard"),
        ({"missing": "mean"}, "missing: mean goes with scale: standard"),
        ({"scale": "standard", "missing": "zero"}, "missing 'zero' is not known"),
    ],
)
def test_settings_of_scaling_that_make_no_sense(options, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        build_reader({"kind": "vector", "dim": 2, **options})


def test_scaling_turned_off_or_not_fitted():
    off = build_reader({"kind": "vector", "dim": 2, "scale": "none", "clip": 5})
    assert off.settings == {"kind": "vector", "dim": 2}
    with pytest.raises(ValueError, match="scale: standard is not fitted yet; train with a run file"):
        Scaling(2, scale="standard").apply(torch.zeros(1, 2))
