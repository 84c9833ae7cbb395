"""Pickles of arrays come back as they were; anything else in them is refused by name and never called."""

import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from confu_paper.datasets.unpickling import read_numpy_pickle

ARRAYS = {
    "plain": np.arange(6.0).reshape(2, 3),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(2.5),
    "fortran, big-endian": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "sliced": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    "texts": np.array(["a", "längs"]),
    "bytes": np.array([b"x", b"yz"]),
    "flags": np.array([True, False]),
    "objects": np.array([["x", 1], [None, 2.5]], dtype=object),
}


def written(folder, content, protocol=4):
    file = folder / "data.pkl"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return file


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_of_every_protocol_come_back(protocol, tmp_path):
    content = {
        "arrays": ARRAYS, "number": np.float32(2), "list": [1, (2.5, "a", b"b", b"")], "set": {1, 2},
        "none": None, "complex": 1j, "bytes": bytearray(b"ab"),
    }  # fmt: skip
    found = read_numpy_pickle(written(tmp_path, content, protocol))
    for name, array in ARRAYS.items():
        assert type(found["arrays"][name]) is np.ndarray
        assert found["arrays"][name].dtype == array.dtype, name
        np.testing.assert_array_equal(found["arrays"][name], array)
    assert {key: value for key, value in found.items() if key != "arrays"} == {
        key: value for key, value in content.items() if key != "arrays"
    }


def test_arrays_inside_of_containers_and_objects_are_found_once(tmp_path):
    shared = np.ones(2)
    nested = np.empty(2, dtype=object)
    nested[0], nested[1] = shared, [shared]
    found = read_numpy_pickle(written(tmp_path, {"a": (shared, [shared]), "b": nested}))
    assert found["a"][0] is found["a"][1][0] is found["b"][0] is found["b"][1][0]
    assert type(found["b"][0]) is np.ndarray


def test_a_list_that_holds_itself_is_no_trap(tmp_path):
    loop = [np.ones(1)]
    loop.append(loop)
    found = read_numpy_pickle(written(tmp_path, loop))
    assert found[1] is found and type(found[0]) is np.ndarray


def test_python_2_arrays_are_read(tmp_path):
    # What Python 2 and numpy 1 wrote: bytes as str, and numpy.core for numpy._core.
    content = (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntS'b'\ntRp2\n(I1\n(I2\ntcnumpy\ndtype\np3\n"
        b"(S'u1'\nI0\nI1\ntRp4\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x01\\xff'\ntb."
    )
    assert read_numpy_pickle(written(tmp_path, content)).tolist() == [1, 255]


class Harm:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_a_foreign_class_is_named_and_not_made(tmp_path):
    mark = tmp_path / "harm"
    file = written(tmp_path, {"train": Harm(Path.touch, mark)})
    with pytest.raises(ValueError, match=r"data\.pkl: the pickle holds (pathlib|.*builtins\.getattr)"):
        read_numpy_pickle(file)
    assert not mark.exists()
    for content, name in [
        (OrderedDict(a=1), r"collections\.OrderedDict"),
        (Harm(subprocess.run, "true"), r"subprocess\.run"),
        (Harm(eval, "1"), r"builtins\.eval"),
        (np.ma.masked_array([1.0], [True]), r"numpy\.ma\.core"),
    ]:
        with pytest.raises(ValueError, match=name + r".* could run code"):
            read_numpy_pickle(written(tmp_path, content))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(2, dtype=[("a", "f4")]), "of type 'V4'"),
        (np.zeros(2, dtype="M8[s]"), "of type 'M8'"),
    ],
)
def test_types_that_are_not_plain_are_refused(array, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_numpy_pickle(written(tmp_path, array))


def reconstructed(shape, content, dtype=b"(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"):
    """An array in protocol 0 that claims a shape and brings other bytes."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + shape + b"cnumpy\ndtype\n"
        + dtype + b"I00\n" + content + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (reconstructed(b"(I9\nt", b"S'abcd'\n"), r"shape \(9,\) and type float32 holds 4 bytes instead of 36"),
        (reconstructed(b"(I-1\nI-1\nt", b"S'abcd'\n"), r"shape \(-1, -1\)"),
        (reconstructed(b"(I1\nt", b"(I1\nI2\nl"), "holds|cut short"),
        # A type whose fields say that its bytes are pointers to objects.
        (
            reconstructed(
                b"(I1\nt", b"S'abcdefgh'\n", b"(S'f8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt(dS'a'\n(I0\ntsI8\nI1\nI0\ntb"
            ),
            "structures",
        ),
        (b"cnumpy.core.multiarray\n_reconstruct\n(dS'_call'\nI1\nsb.", "changes a function"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "'zip'"),
        (b"<html>not found</html>", "cut short, damaged, or no pickle"),
        (b"", "cut short, damaged, or no pickle"),
    ],
)
def test_bytes_that_numpy_would_not_write_are_refused(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_numpy_pickle(written(tmp_path, content))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_cut_short_anywhere_is_told(protocol, tmp_path):
    whole = pickle.dumps({"train": ARRAYS}, protocol)
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        with pytest.raises(ValueError, match=r"data\.pkl: .*(cut short|holds)"):
            read_numpy_pickle(written(tmp_path, whole[:length]))


def test_no_file_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"no\.pkl: no such file"):
        read_numpy_pickle(tmp_path / "no.pkl")
