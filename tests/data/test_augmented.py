"""Augmentation of training batches: geometry, counts, masks and statistics against plain computations."""

import math
import re
from pathlib import Path

import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, SequenceColumn, TensorColumn, WordVocabulary
from confu.data.augment import AUGMENTATIONS, augment_problems, default_augment
from confu.data.augmented import Augment, Draws, augmented_features, augmented_images, augmented_sounds, tokens_kept
from confu.nn.encoders.registry import KINDS
from confu.runs.run_file import Kind

CPU = torch.device("cpu")


class Fixed(Draws):
    """Every uniform number is the same share of its range."""

    def __init__(self, share):
        super().__init__(CPU, "fixed")
        self.share = share

    def uniform(self, shape, low=0.0, high=1.0):
        return torch.full(shape, low + self.share * (high - low))


def draws(seed=0):
    return Draws(CPU, "x", seed)


def pictures(n=3, c=1, h=9, w=9, seed=0):
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed))


def sequences():
    """Two sequences of 6 and 4 steps of 2 features, padded with 9."""
    values = torch.arange(24.0).view(2, 6, 2)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    return values.masked_fill(~mask[..., None], 9.0), mask


MEAN, SPREAD = torch.tensor([100.0, 200.0]), torch.tensor([1.0, 2.0])


def test_a_quarter_turn_is_that_of_torch():
    images = pictures()
    turned = augmented_images(images, {"rotate": 90}, Fixed(1.0))
    assert torch.allclose(turned, torch.rot90(images, 1, (2, 3)), atol=1e-4)


def test_turning_a_wide_picture_keeps_its_shapes():
    y, x = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(80.0) - 39.5, indexing="ij")
    disc = ((x**2 + y**2) < 100).float()[None, None]
    turned = augmented_images(disc, {"rotate": 40}, Fixed(1.0))
    assert float((turned - disc).abs().mean()) < 0.01


def test_flip_shift_scale_and_crop_move_what_they_say():
    images = pictures(h=10, w=10)
    assert torch.allclose(augmented_images(images, {"flip": 1}, draws()), images.flip(3), atol=1e-5)
    moved = augmented_images(images, {"shift": 0.2}, Fixed(1.0))
    assert torch.allclose(moved[:, :, :8, :8], images[:, :, 2:, 2:], atol=1e-5)  # two pixels of ten
    y, x = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(40.0) - 19.5, indexing="ij")
    disc = ((x**2 + y**2) < 64).float()[None, None]
    assert float(augmented_images(disc, {"scale": 1}, Fixed(1.0)).sum() / disc.sum()) == pytest.approx(4, rel=0.05)
    assert float(augmented_images(disc, {"crop": 0.5}, Fixed(0.5)).sum() / disc.sum()) == pytest.approx(
        1 / 0.75**2, rel=0.05
    )


def test_erased_pixels_are_the_share_that_was_asked():
    images = pictures(400, 1, 20, 20)
    erased = augmented_images(images, {"erase": 0.4}, draws())
    shares = (erased != images).float().flatten(1).mean(1)
    assert float(shares.mean()) == pytest.approx(0.2, abs=0.03)  # uniform from 0 to 0.4
    assert float(shares.max()) < 0.45


def test_colours_change_about_mean_and_grey():
    images = pictures(2, 3)
    grey = images.mean(1, keepdim=True)
    assert torch.allclose(augmented_images(images, {"saturation": 1}, Fixed(0.0)), grey.expand_as(images), atol=1e-6)
    flat = augmented_images(images, {"contrast": 1}, Fixed(0.0))
    assert torch.allclose(flat, images.flatten(1).mean(1).view(2, 1, 1, 1).expand_as(flat), atol=1e-6)
    lighter = augmented_images(images, {"brightness": 0.5}, Fixed(1.0)) - images
    spread = images.flatten(1).std(1, correction=0).view(2, 1, 1, 1)
    assert torch.allclose(lighter, 0.5 * spread.expand_as(lighter), atol=1e-5)


def test_all_frames_of_a_video_are_changed_alike():
    frame = pictures(2, 3)
    video = frame[:, None].expand(2, 4, 3, 9, 9)
    strengths = {"rotate": 20, "shift": 0.1, "flip": 0.5, "erase": 0.3, "contrast": 0.5, "saturation": 0.5}
    changed = augmented_images(video, strengths, draws())
    assert torch.allclose(changed, changed[:, :1].expand_as(changed), atol=1e-5)
    assert torch.allclose(changed[:, 0], augmented_images(frame, strengths, draws()), atol=1e-5)


def test_sounds_shift_around_and_keep_their_padding():
    waves = torch.arange(1.0, 21.0).view(2, 10)
    assert torch.equal(augmented_sounds(waves, None, {"time_shift": 0.3}, Fixed(1.0)), waves.roll(3, 1))
    mask = torch.tensor([[True] * 10, [True] * 5 + [False] * 5])
    shifted = augmented_sounds(waves, mask, {"time_shift": 0.4, "gain": 20}, Fixed(1.0))
    assert torch.allclose(shifted[1], torch.cat([10 * waves[1, :5].roll(2), waves[1, 5:]]))


def test_a_stretch_of_a_short_sound_does_not_grow_with_its_padding():
    mask = torch.arange(100) < torch.tensor([[100], [20]]).repeat(300, 1)
    waves = torch.arange(1.0, 101.0) * mask
    hidden = (augmented_sounds(waves, mask, {"time_mask": 0.4}, draws()) != waves).view(300, 2, 100).sum(2)
    assert hidden.amax(0).tolist() == [40, 8]
    assert torch.allclose(hidden.float().mean(0), torch.tensor([20.0, 4.0]), rtol=0.15)


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 3), ("frequency_mask", 2)])
def test_masks_of_spectrograms_are_stretches_of_one_axis(name, axis):
    mels = pictures(200, 1, 12, 30)
    changed = augmented_sounds(mels, None, {name: 0.5}, draws()) != mels
    other = 5 - axis
    assert torch.equal(changed.all(other), changed.any(other))
    stretches = changed.any(other).squeeze(1).int()
    assert (stretches.diff(dim=1, prepend=torch.zeros(200, 1)).clamp(min=0).sum(1) <= 1).all()
    assert float(stretches.float().mean()) == pytest.approx(0.25, abs=0.03)


def test_noise_of_sounds_has_the_ratio_that_was_asked():
    waves = torch.randn(50, 800, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 5, 50)[:, None]
    mask = torch.arange(800) < torch.linspace(200, 800, 50)[:, None]
    waves = waves * mask
    noise = augmented_sounds(waves, mask, {"noise": 0.1}, draws()) - waves
    decibels = 20 * (waves.square().sum(1) / noise.square().sum(1)).sqrt().log10()
    assert torch.allclose(decibels, torch.tensor(20.0), atol=1)
    assert not noise[~mask].any()


def test_features_get_noise_of_their_spread_and_their_mean():
    values = torch.zeros(4000, 2)
    noisy = augmented_features(values, None, {"noise": 0.5}, MEAN, SPREAD, draws())
    assert torch.allclose(noisy.std(0), 0.5 * SPREAD, rtol=0.05)
    dropped = augmented_features(values, None, {"drop": 0.3}, MEAN, SPREAD, draws())
    assert torch.equal(dropped.unique(), torch.tensor([0.0, 100.0, 200.0]))
    assert float((dropped != 0).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_sequences_are_changed_at_real_steps_only():
    values, mask = sequences()
    strengths = {"noise": 0.1, "drop": 0.3, "time_shift": 0.5, "time_warp": 0.3, "time_mask": 0.5}
    for seed in range(20):
        changed = augmented_features(values, mask, strengths, MEAN, SPREAD, draws(seed))
        assert (changed[~mask] == 9.0).all()
    shifted = augmented_features(values, mask, {"time_shift": 0.5}, MEAN, SPREAD, Fixed(1.0))
    assert torch.equal(shifted[0], values[0, [0, 0, 0, 0, 1, 2]])  # three of six, the first step stays at the start
    assert torch.equal(shifted[1, :4], values[1, [0, 0, 0, 1]])
    hidden = augmented_features(values, mask, {"time_mask": 0.5}, MEAN, SPREAD, Fixed(0.99))
    assert torch.equal(hidden[1, 2:4], MEAN.expand(2, 2)) and torch.equal(hidden[1, :2], values[1, :2])


def test_a_warp_keeps_the_ends_and_the_order():
    values, mask = sequences()
    for seed in range(20):
        warped = augmented_features(values, mask, {"time_warp": 0.4}, MEAN, SPREAD, draws(seed))
        assert torch.allclose(warped[0, [0, -1]], values[0, [0, -1]], atol=1e-4)
        assert torch.allclose(warped[1, [0, 3]], values[1, [0, 3]], atol=1e-4)
        assert (warped[0].diff(dim=0) > 0).all() and not torch.allclose(warped[0], values[0])


def test_tokens_are_dropped_at_the_share_but_never_all():
    mask = torch.arange(21) < torch.tensor([21, 12, 3, 2, 1]).repeat(400)[:, None]
    kept = tokens_kept(mask, 0.3, draws()) & mask
    assert kept[:, 0].all()
    assert (kept.sum(1) >= mask.sum(1).clamp(max=2)).all()
    long = mask.sum(1) == 21
    assert float(kept[long][:, 1:].float().mean()) == pytest.approx(0.7, abs=0.02)
    assert (tokens_kept(mask[:5], 0.9, draws()) & mask[:5])[:, 1:].any(1).tolist() == [True, True, True, True, False]


def dataset(rows=40):
    generator = torch.Generator().manual_seed(0)
    texts = ["a red bird", "a blue bird of the sea"]
    return ArrayDataset(
        {
            "image": TensorColumn(torch.rand(rows, 3, 8, 8, generator=generator)),
            "mel": TensorColumn(torch.rand(rows, 1, 8, 20, generator=generator)),
            "wave": TensorColumn(torch.rand(rows, 300, generator=generator)),
            "text": CaptionColumn(texts, torch.arange(rows) % 3 - 1, WordVocabulary.from_texts(texts)),
            "vector": TensorColumn(3 + torch.rand(rows, 4, generator=generator)),
            "sequence": SequenceColumn([torch.rand(2 + row % 5, 3, generator=generator) for row in range(rows)]),
        }
    )


FORMS = {
    "image": ("image", "image"),
    "mel": ("audio", "spectrogram"),
    "wave": ("audio", "waveform"),
    "text": ("text", "tokens"),
    "vector": ("vector", "vector"),
    "sequence": ("sequence", "sequence"),
}
KINDS_OF = {name: kind for name, (kind, _) in FORMS.items()}
ALL = {name: {key: 0.3 for key, row in AUGMENTATIONS.items() if form in row.forms} for name, (_, form) in FORMS.items()}


def parts(inputs):
    return inputs.values if isinstance(inputs.values, dict) else {"values": inputs.values}


def test_a_step_draws_the_same_again_and_another_step_does_not():
    data = dataset()
    augment, batch = Augment(data, ALL, KINDS_OF), data.batch(torch.arange(40))
    first, again, process = augment(batch, 7, 3, 0), augment(batch, 7, 3, 0), augment(batch, 7, 3, 1)
    torch.rand(5)  # nothing is drawn from torch's own state
    for name in ALL:
        assert torch.equal(first.inputs[name].rows, batch.inputs[name].rows)
        changed = "attention_mask" if name == "text" else "values"
        tensors = [parts(each.inputs[name])[changed] for each in (first, again, process, batch)]
        assert torch.equal(tensors[0], tensors[1])
        if name != "text":  # two short texts may lose the same words
            assert not torch.equal(tensors[0], tensors[2]) and not torch.equal(tensors[0], tensors[3])
        assert tensors[0].dtype == tensors[3].dtype and bool(tensors[0].isfinite().all())
    assert first.ids == batch.ids


def test_no_strength_changes_nothing():
    data = dataset()
    none = {name: dict.fromkeys(each, 0.0) for name, each in ALL.items()}
    batch = data.batch(torch.arange(10))
    assert Augment(data, none, KINDS_OF)(batch, 0).inputs == batch.inputs
    assert torch.equal(augmented_images(pictures(), none["image"], draws()), pictures())
    values, mask = sequences()
    assert torch.equal(augmented_features(values, mask, none["sequence"], MEAN, SPREAD, draws()), values)


def test_rows_are_changed_each_on_its_own():
    data = dataset()
    augment = Augment(data, ALL, KINDS_OF)
    few, other = data.batch(torch.tensor([4, 7])), data.batch(torch.tensor([4, 9]))
    for name in ("image", "mel", "wave", "vector"):
        one, two = (parts(augment(batch, 1).inputs[name])["values"] for batch in (few, other))
        assert torch.allclose(one[0], two[0], atol=1e-6)


def test_what_does_not_fit_is_named_before_training():
    data = dataset()
    for strengths, kinds, words in (
        ({"mel": {"gain": 3}}, KINDS_OF, r"modalities\.mel\.augment\.gain: not known for audio, .*a spectrogram"),
        ({"wave": {"saturation": 1}}, KINDS_OF, r"modalities\.wave\.augment\.saturation: not known for audio"),
        ({"image": {"rotate": 200}}, KINDS_OF, r"modalities\.image\.augment\.rotate: expected 0 to 180 \(degrees"),
        ({"mel": {"saturation": 1}}, {"mel": "image"}, r"augment\.saturation: needs 3 channels of colour; got 1"),
        ({"imgae": {"rotate": 9}}, KINDS_OF, "modality 'imgae' is not known"),
    ):
        with pytest.raises(ValueError, match=words):
            Augment(data, strengths, kinds)
    problem = augment_problems("image", {"rotate": 9, "noise": 1}, "features")
    assert list(problem) == ["rotate"] and "frozen network" in problem["rotate"]


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_of_every_kind_are_known_and_in_range(kind):
    assert kind in Kind.__args__
    assert augment_problems(kind, default_augment(kind) or {}) == {}
    assert augment_problems(kind, {"rottate": 1})["rottate"].startswith(f"not known for {kind}; ")
    for name, row in AUGMENTATIONS.items():
        problems = augment_problems(kind, {name: math.nextafter(row.highest, math.inf)})
        assert problems and ("not known" in problems[name] or "expected 0 to" in problems[name])


def test_the_page_says_how_strong_each_may_be():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    for name, row in AUGMENTATIONS.items():
        assert re.search(rf"^\| .*`{name}`.* \| {row.highest:g} \|", page, re.MULTILINE), name
