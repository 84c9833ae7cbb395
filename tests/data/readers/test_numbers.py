from io import BytesIO

import numpy as np
import pytest
import torch

from confu.data.readers import NumberReader, SequenceReader, VectorReader, number_reader

from .fixtures import npy_bytes

VECTOR = np.array([1.0, 2.0, 3.0])
STEPS = np.arange(8.0).reshape(4, 2)


def npz_bytes(**arrays: np.ndarray) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(("reader", "array"), [(VectorReader(3), VECTOR), (SequenceReader(2), STEPS)])
def test_every_source_of_numbers_gives_the_same(tmp_path, reader, array):
    (tmp_path / "a.npy").write_bytes(npy_bytes(array.astype(np.float16)))
    sources = [
        array, array.tolist(), tuple(array.tolist()), array.astype(np.int8), torch.from_numpy(array).bfloat16(),
        tmp_path / "a.npy", str(tmp_path / "a.npy"), npy_bytes(array), npz_bytes(values=array), array.astype(">f8"),
    ]  # fmt: skip
    for source in sources:
        item = reader.read(source)
        assert item.dtype == torch.float32
        assert item.tolist() == array.tolist()


def test_an_item_is_a_copy():
    array = VECTOR.astype(np.float32)
    VectorReader(3).read(array)[0] = 9
    assert array[0] == 1


def test_sequences_are_cut_padded_and_may_have_one_number_a_step():
    reader = SequenceReader(2, max_steps=3)
    inputs = reader.collate([reader.read(STEPS), reader.read(STEPS[:1])])
    assert inputs["values"].tolist() == [STEPS[:3].tolist(), [[0, 1], [0, 0], [0, 0]]]
    assert inputs["mask"].tolist() == [[True] * 3, [True, False, False]]
    assert SequenceReader(1).read([1, 2, 3]).shape == (3, 1)


def test_numbers_are_standardised_by_those_of_the_training():
    numbers = [1, None, 2.0, np.float32(6), torch.tensor(3), np.array([3.0])]
    reader = number_reader(numbers)
    given = np.array([1, 2, 6, 3, 3])
    values = reader.collate([reader.read(number) for number in numbers if number is not None])
    assert np.allclose(values[:, 0], (given - given.mean()) / given.std(), atol=1e-6)
    with pytest.raises(ValueError, match="expected numbers that differ, to standardise by; got 2 times 1"):
        number_reader([1, 1, None])
    with pytest.raises(ValueError, match="got none"):
        number_reader([None])


@pytest.mark.parametrize(
    ("reader", "source", "message"),
    [
        (VectorReader(3), [1, 2], r"list of 2: expected a vector of 3 numbers; got shape \(2,\)"),
        (VectorReader(3), [[1, 2, 3]], r"got shape \(1, 3\)"),
        (VectorReader(3), [1, float("nan"), 3], "1 of 3 numbers are NaN"),
        (VectorReader(3), [1, 1e300, float("inf")], "2 of 3 numbers are NaN, infinite or too large"),
        (VectorReader(3), [1, None, 3], "expected numbers; got object"),
        (VectorReader(3), ["1", "2", "3"], "expected numbers; got <U1"),
        (VectorReader(3), [1j, 2, 3], "expected numbers; got complex128"),
        (VectorReader(3), [[1], [2, 3]], "list of 2: its rows differ in length"),
        (VectorReader(3), npy_bytes(np.array([1, None, "x"], dtype=object)), "not readable as .npy or .npz"),
        (VectorReader(3), npz_bytes(a=VECTOR, b=VECTOR), r"expected one array in the .npz file; it holds 2 \(a, b\)"),
        (VectorReader(3), npz_bytes(), "it holds 0"),
        (VectorReader(3), npy_bytes(VECTOR)[:-4], "not readable as .npy or .npz"),
        (VectorReader(3), npz_bytes(a=VECTOR)[:-40], "not readable as .npy or .npz"),
        (VectorReader(3), b"\x80\x04K\x01.", "not readable as .npy or .npz"),  # a pickle
        (VectorReader(3), "nowhere.npy", "nowhere.npy: cannot be read: no such file"),
        (VectorReader(3), {1, 2, 3}, "expected an array, a list of numbers or a .npy file; got set"),
        (SequenceReader(2), [[1, 2, 3]], r"expected \(steps, 2\) numbers, one step or more; got shape \(1, 3\)"),
        (SequenceReader(2), [1, 2], r"got shape \(2,\)"),
        (SequenceReader(2), np.zeros((0, 2)), r"got shape \(0, 2\)"),
        (SequenceReader(2), [[1, float("inf")]], "1 of 2 numbers are NaN"),
        (NumberReader(), "3", "3: expected a number; got str"),
        (NumberReader(), [1, 2], "expected one number"),
        (NumberReader(), float("nan"), "nan: 1 of 1 numbers are NaN"),
    ],
)
def test_numbers_that_cannot_be_used_are_named(reader, source, message):
    with pytest.raises(ValueError, match=message):
        reader.read(source)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VectorReader(0), "dim: expected 1 or more"),
        (lambda: SequenceReader(2, max_steps=0), "max_steps: expected 1 or more"),
        (lambda: NumberReader(std=0), "std positive"),
        (lambda: NumberReader(mean=float("nan")), "mean and std"),
    ],
)
def test_settings_that_make_no_sense_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
