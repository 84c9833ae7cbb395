"""Corruptions: what they compute, that a row's fate is its own, and what they refuse."""

import math

import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, Dataset, SequenceColumn, TensorColumn, WordVocabulary
from confu.data.corruptions import (
    Blurred,
    Clipped,
    CorruptedDataset,
    Corruption,
    Dropped,
    GaussianNoise,
    Swapped,
    TimeShifted,
    blur,
    measured_snr_db,
    row_random,
    shift_frames,
)
from confu.types import Inputs

ROWS = 23
CAPTIONS = ["a one", "a two", "the three is here"]
ON_NUMBERS = [
    GaussianNoise(std=0.2),
    GaussianNoise(snr_db=7),
    GaussianNoise(snr_db=7, power="variance"),
    Clipped(0.2, 0.7),
    TimeShifted(2),
    TimeShifted(-3, fill="wrap"),
]
ON_PICTURES = [*ON_NUMBERS, Blurred(1.3)]
ON_ALL = [Dropped(), Dropped(0.4), Swapped()]


class Shared(TensorColumn):
    """Stores what rows share once, as captions do."""

    def take(self, indices, modality):
        distinct, rows = (indices // 3).unique(return_inverse=True)
        return Inputs(super().take(distinct, modality).values, rows)


def dataset(missing=(4, 5, 11)):
    random = torch.Generator().manual_seed(0)
    lost = torch.zeros(ROWS, dtype=torch.bool)
    lost[list(missing)] = True
    pictures = torch.rand(ROWS, 1, 5, 7, generator=random) * torch.linspace(0.5, 2, ROWS)[:, None, None, None]
    sequences = [
        None if lost[row] else torch.rand(1 + row % 4, 3, generator=random) + 0.1 for row in range(ROWS)
    ]  # fmt: skip
    words = torch.where(lost, -1, torch.arange(ROWS) % 3)
    columns = {
        "image": TensorColumn(pictures, missing=lost),
        "shared": Shared(pictures),
        "sequence": SequenceColumn(sequences),
        "text": CaptionColumn(CAPTIONS, words, WordVocabulary.from_texts(CAPTIONS)),
    }
    return ArrayDataset(columns, torch.arange(ROWS) % 2, [f"row{i}" for i in range(ROWS)], ["no", "yes"])


def rows_of(data, indices, modality):
    """What each row holds, without padding: a list of tensors, None where it is missing."""
    inputs = data.batch(torch.as_tensor(indices)).inputs[modality]
    found = []
    for row in inputs.rows.tolist():
        if row < 0:
            found.append(None)
        elif isinstance(inputs.values, dict):
            mask = inputs.values["mask" if "mask" in inputs.values else "attention_mask"][row].bool()
            found.append(inputs.values["values" if "mask" in inputs.values else "input_ids"][row][mask])
        else:
            found.append(inputs.values[row])
    return found


def same(first, second):
    return (first is None and second is None) or (
        first is not None and second is not None and torch.equal(first, second)
    )


CASES = [
    *(("image", corruption) for corruption in (*ON_PICTURES, *ON_ALL)),
    *(("shared", corruption) for corruption in (*ON_PICTURES, *ON_ALL)),
    *(("sequence", corruption) for corruption in (*ON_NUMBERS, *ON_ALL)),
    *(("text", corruption) for corruption in ON_ALL),
]


@pytest.mark.parametrize(("modality", "corruption"), CASES, ids=str)
def test_a_row_does_not_depend_on_its_batch(modality, corruption):
    data = CorruptedDataset(dataset(), {modality: corruption}, seed=3)
    alone = [rows_of(data, [row], modality)[0] for row in range(ROWS)]
    assert all(same(a, b) for a, b in zip(alone, rows_of(data, range(ROWS), modality)))
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(99)  # nor on torch's state
    assert all(same(alone[row], got) for row, got in zip(order.tolist(), rows_of(data, order, modality)))
    twice = rows_of(data, [6, 2, 6], modality)
    assert same(twice[0], twice[2])
    assert same(twice[0], alone[6])


@pytest.mark.parametrize(("modality", "corruption"), CASES, ids=str)
def test_all_else_stays(modality, corruption):
    clean = dataset()
    before = [None if one is None else one.clone() for one in rows_of(clean, range(ROWS), modality)]
    data = CorruptedDataset(clean, {modality: corruption})
    assert isinstance(data, Dataset)
    assert isinstance(corruption, Corruption)
    assert (data.ids, data.class_names, data.modalities, len(data)) == (clean.ids, ("no", "yes"), clean.modalities, 23)
    assert data.labels is clean.labels
    batch = data.batch(torch.tensor([7, 4]))
    assert batch.ids == ["row7", "row4"]
    assert batch.labels.tolist() == [1, 0]
    for other in set(clean.modalities) - {modality}:
        assert all(same(a, b) for a, b in zip(rows_of(data, range(ROWS), other), rows_of(clean, range(ROWS), other)))
    changed = rows_of(data, range(ROWS), modality)
    assert not all(same(a, b) for a, b in zip(before, changed))
    assert all(b is None for a, b in zip(before, changed) if a is None)
    if not isinstance(corruption, Dropped):
        assert all(b is not None for a, b in zip(before, changed) if a is not None)
    assert all(same(a, b) for a, b in zip(before, rows_of(clean, range(ROWS), modality)))  # the original is untouched


def test_no_corruption_is_the_data_set_itself():
    data = CorruptedDataset(dataset(), {})
    assert all(
        same(a, b) for a, b in zip(rows_of(data, range(ROWS), "image"), rows_of(dataset(), range(ROWS), "image"))
    )


def flat(rows=40, size=3000, level=0.5):
    return ArrayDataset({"image": TensorColumn(torch.full((rows, size), level))})


def noise_of(data, modality="image", clean=0.5):
    return data.batch(torch.arange(len(data))).inputs[modality].values - clean


def test_noise_is_normal_with_the_std_asked_for_and_independent():
    noise = noise_of(CorruptedDataset(flat(), {"image": GaussianNoise(std=0.3)})) / 0.3
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean().item() == pytest.approx(3, abs=0.1)
    correlations = torch.corrcoef(noise) - torch.eye(len(noise))
    assert correlations.abs().max() < 5 / math.sqrt(3000)


def test_noise_follows_std_seed_and_modality():
    one, two, other = (
        noise_of(CorruptedDataset(flat(), {"image": GaussianNoise(std=std)}, seed=seed))
        for std, seed in ((0.1, 0), (0.2, 0), (0.1, 1))
    )
    torch.testing.assert_close(two, 2 * one, atol=1e-6, rtol=0)
    assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.02
    values = torch.full((4, 3000), 0.5)
    both = ArrayDataset({"image": TensorColumn(values), "audio": TensorColumn(values)})
    noisy = CorruptedDataset(both, {"image": GaussianNoise(std=0.1), "audio": GaussianNoise(std=0.1)})
    pair = torch.stack([noise_of(noisy, "image").flatten(), noise_of(noisy, "audio").flatten()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.05


def test_rows_that_share_an_input_get_noise_of_their_own():
    data = dataset()
    assert len(data.batch(torch.tensor([0, 1])).inputs["shared"].values) == 1
    first, second = rows_of(CorruptedDataset(data, {"shared": GaussianNoise(std=0.1)}), [0, 1], "shared")
    assert not torch.allclose(first, second, atol=0.01)


@pytest.mark.parametrize("power", ["mean_square", "variance"])
def test_a_given_snr_is_kept_in_every_sample(power):
    values = torch.rand(6, 20_000) * torch.tensor([0.1, 0.5, 1, 2, 5, 0])[:, None] + torch.tensor(
        [0, 3, 0.5, 0, 1, 0.0]
    ).unsqueeze(1)
    data = ArrayDataset({"image": TensorColumn(values)})
    noisy = CorruptedDataset(data, {"image": GaussianNoise(snr_db=12, power=power)})
    noise = noise_of(noisy, clean=values)
    for row in range(5):
        x = values[row] - (values[row].mean() if power == "variance" else 0)
        snr = 10 * torch.log10(x.square().mean() / noise[row].square().mean())
        assert snr.item() == pytest.approx(12, abs=0.15)
    assert noise[5].abs().max() == 0  # silence
    assert measured_snr_db(data, GaussianNoise(snr_db=12, power=power), "image", power) == pytest.approx(12, abs=0.15)


def test_measured_snr_is_that_of_the_formula():
    data = dataset()
    values = torch.stack([row for row in rows_of(data, range(ROWS), "image") if row is not None]).double()
    noisy = CorruptedDataset(data, {"image": GaussianNoise(std=0.05)}, seed=2)
    noise = torch.stack([row for row in rows_of(noisy, range(ROWS), "image") if row is not None]).double() - values
    centred = values - values.mean((1, 2, 3), keepdim=True)
    for power, signal in (("mean_square", values), ("variance", centred)):
        expected = 10 * math.log10(signal.square().sum() / noise.square().sum())
        for batch_size in (4, 100):
            got = measured_snr_db(data, GaussianNoise(std=0.05), "image", power, seed=2, batch_size=batch_size)
            assert got == pytest.approx(expected, abs=1e-4)
    assert measured_snr_db(data, GaussianNoise(std=0), "image") == math.inf
    assert measured_snr_db(data, Blurred(1), "image") > measured_snr_db(data, Blurred(2), "image")


def test_measured_snr_of_sequences_counts_real_steps_only():
    data = dataset()
    steps = torch.cat([row for row in rows_of(data, range(ROWS), "sequence") if row is not None])
    expected = 10 * math.log10(steps.square().mean() / 0.1**2)
    assert measured_snr_db(data, GaussianNoise(std=0.1), "sequence") == pytest.approx(expected, abs=1)
    noisy = CorruptedDataset(data, {"sequence": GaussianNoise(std=0.1)})
    inputs = noisy.batch(torch.arange(ROWS)).inputs["sequence"]
    assert inputs.values["values"][~inputs.values["mask"]].abs().max() == 0


def test_dropped_rows_are_missing_and_nested_in_their_share():
    data = dataset()
    inputs = CorruptedDataset(data, {"text": Dropped()}).batch(torch.arange(ROWS)).inputs["text"]
    assert (inputs.rows == -1).all()
    assert len(inputs.values["input_ids"]) == 0
    lost = {}
    for share in (0.0, 0.3, 0.6):
        wide = ArrayDataset({"image": TensorColumn(torch.zeros(500, 1))})
        rows = CorruptedDataset(wide, {"image": Dropped(share)}).batch(torch.arange(500)).inputs["image"]
        lost[share] = ~rows.present
        assert lost[share].float().mean().item() == pytest.approx(share, abs=0.07)
        assert len(rows.values) == int(rows.present.sum())
    assert (lost[0.3] <= lost[0.6]).all()


def test_swapped_is_a_derangement_of_the_present_rows():
    data = dataset(missing=(0, 3, 4, 5, 6, 7, 20))
    clean, swapped = (
        rows_of(which, range(ROWS), "image") for which in (data, CorruptedDataset(data, {"image": Swapped()}, seed=5))
    )
    sources = []
    for row, value in enumerate(swapped):
        if value is None:
            assert clean[row] is None
            continue
        (source,) = [i for i, other in enumerate(clean) if other is not None and torch.equal(value, other)]
        assert source != row
        sources.append(source)
    assert sorted(sources) == [row for row in range(ROWS) if clean[row] is not None]
    other = rows_of(CorruptedDataset(data, {"image": Swapped()}, seed=6), range(ROWS), "image")
    assert not all(same(a, b) for a, b in zip(swapped, other))


def test_swapping_needs_a_second_row():
    with pytest.raises(ValueError, match=r"swapped: expected 'image' in at least 2 of the data set's 23 rows.*got 1"):
        CorruptedDataset(dataset(missing=range(1, ROWS)), {"image": Swapped()})
    with pytest.raises(ValueError, match="at least 2 of the data set's 1 rows"):
        CorruptedDataset(flat(rows=1, size=3), {"image": Swapped()})


def test_clipping_moves_only_what_lies_outside():
    clean, clipped = (
        torch.stack(rows_of(which, [0, 1], "image"))
        for which in (dataset(), CorruptedDataset(dataset(), {"image": Clipped(0.2, 0.3)}))
    )
    torch.testing.assert_close(clipped, clean.maximum(torch.tensor(0.2)).minimum(torch.tensor(0.3)))


@pytest.mark.parametrize("frames", [0, 1, -2, 4, 5, -9])
def test_a_shift_moves_frames_later(frames):
    values = torch.arange(1.0, 11).reshape(2, 1, 5)
    for fill in (-7.0, "wrap"):
        shifted = shift_frames(values, frames, fill)
        for time in range(5):
            came = time - frames
            if fill == "wrap":
                assert torch.equal(shifted[..., time], values[..., came % 5])
            elif 0 <= came < 5:
                assert torch.equal(shifted[..., time], values[..., came])
            else:
                assert (shifted[..., time] == fill).all()


def test_a_sequence_is_shifted_within_its_own_steps():
    data = ArrayDataset({"sequence": SequenceColumn([torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.ones(1, 2)])})
    first, second = rows_of(CorruptedDataset(data, {"sequence": TimeShifted(1, fill=9)}), [0, 1], "sequence")
    assert first.tolist() == [[9, 9], [1, 2], [3, 4]]
    assert second.tolist() == [[9, 9]]


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 2.0])
def test_blur_is_a_slow_double_sum(sigma):
    picture = torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    reach = int(4 * sigma + 0.5)
    weight = {k: math.exp(-(k**2) / (2 * sigma**2)) if k else 1.0 for k in range(-reach, reach + 1)}
    total = sum(weight.values())
    expected = torch.zeros_like(picture)
    for y in range(6):
        for x in range(4):
            for i, a in weight.items():
                for j, b in weight.items():
                    at = (0, min(max(y + i, 0), 5), min(max(x + j, 0), 3))
                    expected[0, y, x] += a * b / total**2 * picture[at]
    torch.testing.assert_close(blur(picture, sigma), expected)


def test_blur_of_a_flat_picture_needs_its_shape():
    pictures = torch.rand(3, 35)
    data = ArrayDataset({"image": TensorColumn(pictures)})
    with pytest.raises(ValueError, match=r"'image' has shape \(35,\).*shape=\(28, 28\)"):
        CorruptedDataset(data, {"image": Blurred(1)})
    with pytest.raises(ValueError, match=r"shape: a row of 'image' has shape \(35,\), which is no \(5, 8\)"):
        CorruptedDataset(data, {"image": Blurred(1, shape=(5, 8))})
    blurred = CorruptedDataset(data, {"image": Blurred(1, shape=(5, 7))}).batch(torch.arange(3)).inputs["image"].values
    torch.testing.assert_close(blurred, blur(pictures.view(3, 5, 7), 1).flatten(1))


def test_nested_corruptions_follow_one_another():
    noisy = CorruptedDataset(dataset(), {"image": GaussianNoise(std=0.5)})
    both = CorruptedDataset(noisy, {"image": Clipped(0, 1)})
    first, second = rows_of(noisy, [0, 1], "image"), rows_of(both, [0, 1], "image")
    assert all(torch.equal(a.clamp(0, 1), b) for a, b in zip(first, second))
    gone = CorruptedDataset(CorruptedDataset(dataset(), {"image": Dropped()}), {"image": GaussianNoise(std=1)})
    assert rows_of(gone, [0, 1], "image") == [None, None]


def test_row_random_depends_on_each_argument():
    arguments = [
        (0, "a", "noise", 1),
        (1, "a", "noise", 1),
        (0, "b", "noise", 1),
        (0, "a", "drop", 1),
        (0, "a", "noise"),
    ]
    assert len({row_random(*each).random() for each in arguments}) == len(arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(), "either std or snr_db.*got std=None, snr_db=None"),
        (lambda: GaussianNoise(std=0.1, snr_db=20), "either std or snr_db.*got std=0.1, snr_db=20"),
        (lambda: GaussianNoise(std=-0.1), "std: expected a number of 0 or more.*got -0.1"),
        (lambda: GaussianNoise(std=math.nan), "std: expected .* got nan"),
        (lambda: GaussianNoise(snr_db=math.inf), "snr_db: expected a finite.*std=0"),
        (lambda: Dropped(1.5), r"share must lie in \[0, 1\]; got 1.5"),
        (lambda: Clipped(1, 1), "low: expected a number below high; got low=1, high=1"),
        (lambda: Clipped(math.nan, 1), "low: expected"),
        (lambda: Blurred(-1), "sigma: expected .* got -1"),
        (lambda: CorruptedDataset(dataset(), {"imgae": Swapped()}), "'imgae' is not known; did you mean 'image'"),
        (lambda: CorruptedDataset(dataset(), {"image": Swapped()}, seed=-1), "seed: expected 0 or more; got -1"),
        (lambda: measured_snr_db(dataset(), Swapped(), "sound"), "modality 'sound' is not known"),
        (lambda: measured_snr_db(dataset(), Dropped(), "image"), "one that keeps every row.*got dropped"),
        (lambda: measured_snr_db(dataset(), Swapped(), "text"), "swapped: expected 'text' to hold numbers"),
        (lambda: measured_snr_db(flat(level=0.0), GaussianNoise(std=1), "image"), "no signal .*or .* zeros"),
        (lambda: measured_snr_db(flat(), GaussianNoise(std=1), "image", "variance"), "hold one number each"),
        (lambda: CorruptedDataset(dataset(), {"sequence": Blurred(1)}), "needs pictures.*a dict of values, mask"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("corruption", ON_NUMBERS, ids=str)
def test_tokens_and_whole_numbers_are_refused(corruption):
    with pytest.raises(ValueError, match=r"'text' to hold numbers.*got a dict of input_ids, attention_mask.*swap"):
        CorruptedDataset(dataset(), {"text": corruption})
    tokens = ArrayDataset({"text": TensorColumn(torch.ones(2, 3, dtype=torch.int64))})
    with pytest.raises(ValueError, match=r"got torch\.int64, as tokens are"):
        CorruptedDataset(tokens, {"text": corruption})


def test_names_are_printable_and_differ():
    names = [str(corruption) for corruption in (*ON_PICTURES, *ON_ALL, GaussianNoise(std=0.05), Clipped(0, 2))]
    assert names[0] == "noise of std 0.2"
    assert "shifted by -3 frames, wrapped" in names
    assert len(set(names)) == len(names)
