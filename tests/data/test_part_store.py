import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from confu.data import part_store
from confu.data.part_store import PartStore, map_npy


def fill(folder, keys, **arguments) -> PartStore:
    with PartStore(folder, **{"ragged": False, **arguments}) as store:
        for key in keys:
            store.add(key, item(key))
    return store


def item(key: str) -> torch.Tensor:
    return torch.tensor([float(ord(key)), 1.0])


def found(store: PartStore, keys) -> bool:
    return torch.equal(store.gather(store.places(list(keys))), torch.stack([item(key) for key in keys]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_a_file_is_mapped_as_numpy_reads_it(tmp_path, dtype):
    values = torch.arange(24).reshape(2, 3, 4).to(dtype)
    np.save(tmp_path / "a.npy", values.numpy())
    mapped = map_npy(tmp_path / "a.npy")
    assert torch.equal(mapped, values)
    mapped[0] = 0  # changes are not written
    assert torch.equal(map_npy(tmp_path / "a.npy"), values)


def test_thousands_of_parts_keep_no_file_open(tmp_path, monkeypatch):
    monkeypatch.setattr(part_store, "PART_BYTES", 1)
    store = fill(tmp_path, "abcdefgh")
    assert len(store.parts) == 8
    if Path("/proc/self/fd").exists():
        opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        assert not [path for path in opened if path.is_relative_to(tmp_path)]
    assert found(store, "hafa")


def test_a_part_is_written_when_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(part_store, "PART_SECONDS", 0.0)
    with PartStore(tmp_path, ragged=False) as store:
        store.add("a", item("a"))
        assert found(PartStore(tmp_path, ragged=False), "a")


def test_what_is_there_is_not_added_again(tmp_path):
    fill(tmp_path, "ab")
    store = fill(tmp_path, "bac")
    assert [len(part) for part in store.parts] in ([2, 1], [1, 2])
    assert found(store, "cab")
    assert "c" in store
    assert "d" not in store


def test_items_of_differing_length(tmp_path):
    items = {key: torch.rand(length, 2) for key, length in (("a", 3), ("b", 1), ("c", 4))}
    with PartStore(tmp_path, ragged=True) as store:
        for key, one in items.items():
            store.add(key, one)
    again = PartStore(tmp_path, ragged=True)
    assert all(torch.equal(one, items[key]) for key, one in zip("cab", again.gather(again.places(list("cab")))))


def test_an_error_keeps_what_was_added(tmp_path):
    with pytest.raises(KeyboardInterrupt), PartStore(tmp_path, ragged=False) as store:
        store.add("a", item("a"))
        raise KeyboardInterrupt
    assert found(PartStore(tmp_path, ragged=False), "a")


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    fill(tmp_path, "ab")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = PartStore(tmp_path, ragged=False)
    store.add("c", torch.zeros(100_000))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(OSError, match=r"cannot write the cache \(.*\)\. What was written before stays"):
            store.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list(tmp_path.iterdir())) == 2
    store.flush()  # what could not be written is not tried again
    assert found(fill(tmp_path, "abd"), "dab")


def test_a_damaged_part_is_named(tmp_path):
    fill(tmp_path, "ab")
    (keys,) = tmp_path.glob("*.keys.npy")
    items = keys.with_name(keys.name.replace(".keys", ""))
    content = items.read_bytes()
    for damaged in (content[:-1], content[:50], b""):
        items.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{items.name}: a damaged part of the cache .*delete it and {keys.name}"):
            PartStore(tmp_path, ragged=False)
    items.unlink()
    with pytest.raises(ValueError, match="a damaged part"):
        PartStore(tmp_path, ragged=False)
    keys.unlink()
    assert found(fill(tmp_path, "ab"), "ab")


def test_what_killed_processes_left_is_removed_when_it_is_old(tmp_path):
    fill(tmp_path, "a")
    left = [tmp_path / ".b.npy.partial", tmp_path / "c.npy"]
    for path in left:
        path.write_bytes(b"half")
    PartStore(tmp_path, ragged=False)
    assert all(path.exists() for path in left)  # another process may be writing them
    for path in left:
        os.utime(path, (time.time() - 7200,) * 2)
    assert found(PartStore(tmp_path, ragged=False), "a")
    assert not any(path.exists() for path in left)
