import gzip

import numpy as np
import pytest

from confu.data.idx import read_idx, read_mnist

from .fixtures import write_idx, write_mnist


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_what_is_written_is_read(tmp_path, name):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(write_idx(tmp_path / name, values)), values)


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("change", [-1, 1])
def test_another_number_of_bytes_is_named(tmp_path, name, change):
    path = write_idx(tmp_path / name, np.zeros((5, 3), dtype=np.uint8))
    content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    content = content[:change] if change < 0 else content + b"x"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match=rf"{name}: expected 27 bytes for dimensions \(5, 3\), found {27 + change}"):
        read_idx(path)


def test_a_gzip_stream_cut_short_says_how_much_there_was(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, size=(100, 100))
    path = write_idx(tmp_path / "images.gz", random)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        ValueError, match=r"images.gz: expected 10012 bytes .* found 49\d\d \(the gzip stream ends early"
    ):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (b"PK\x03\x04....", "no IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "type 0x0d"),
        (b"\0\0\x08\x03\0\0", "found 6"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff\xff\xff\xff", "gzip stream is damaged"),
    ],
)
def test_no_idx_file_is_named(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=rf"file: .*{message}"):
        read_idx(tmp_path / "file")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_read(tmp_path, suffix):
    parts = read_mnist(write_mnist(tmp_path / "mnist", train=12, test=10, suffix=suffix))
    assert parts["train"][0].shape == (12, 28, 28)
    assert parts["test"][1].tolist() == list(range(10))


def test_missing_mnist_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        read_mnist(tmp_path / "nowhere")
    folder = write_mnist(tmp_path / "mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="holds neither t10k-labels-idx1-ubyte nor"):
        read_mnist(folder)


def test_mnist_of_another_size_is_named(tmp_path):
    folder = write_mnist(tmp_path / "mnist")
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(7))
    with pytest.raises(ValueError, match="expected 36 labels"):
        read_mnist(folder)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.full(36, 10))
    with pytest.raises(ValueError, match="digits 0 to 9, got 10"):
        read_mnist(folder)
    write_idx(folder / "train-images-idx3-ubyte.gz", np.zeros((36, 27, 28)))
    with pytest.raises(ValueError, match="28 x 28"):
        read_mnist(folder)
