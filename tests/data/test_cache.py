import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from confu.data import Column, cache
from confu.data.cache import CachedColumn, PartStore, keyed_folder, map_npy
from confu.data.columns import SourceColumn
from confu.data.readers import build_reader

from .readers.fixtures import CASES


def fill(folder, keys, **arguments) -> PartStore:
    with PartStore(folder, **{"ragged": False, **arguments}) as store:
        for key in keys:
            store.add(key, item(key))
    return store


def item(key: str) -> torch.Tensor:
    return torch.tensor([float(ord(key)), 1.0])


def holds(store: PartStore, keys) -> bool:
    return torch.equal(store.gather(store.places(list(keys))), torch.stack([item(key) for key in keys]))


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("words", "tokens")])
def test_a_cached_column_is_the_uncached_one(tmp_path, case):
    settings, source = CASES[case]
    reader = build_reader({"kind": case, **settings})
    with PartStore(tmp_path, ragged=not reader.stackable) as store:
        store.add("key", reader.read(source))
    cached, plain = (
        CachedColumn(store, ["key", None, "key"], reader.collate),
        SourceColumn([source, None, source], reader),
    )
    assert isinstance(cached, Column)
    assert cached.present.tolist() == [True, False, True]
    for rows in ([0, 1, 2], [2], [1], []):
        indices = torch.tensor(rows, dtype=torch.long)
        expected, inputs = plain.take(indices, "x"), cached.take(indices, "x")
        assert inputs.rows.tolist() == expected.rows.tolist()
        first, second = (each if isinstance(each, dict) else {"": each} for each in (inputs.values, expected.values))
        assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_a_file_is_mapped_as_numpy_reads_it(tmp_path, dtype):
    values = torch.arange(24).reshape(2, 3, 4).to(dtype)
    np.save(tmp_path / "a.npy", values.numpy())
    mapped = map_npy(tmp_path / "a.npy")
    assert torch.equal(mapped, values)
    mapped[0] = 0  # changes are not written
    assert torch.equal(map_npy(tmp_path / "a.npy"), values)


def test_thousands_of_parts_keep_no_file_open(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PART_BYTES", 1)
    store = fill(tmp_path, "abcdefgh")
    assert len(store.parts) == 8
    if Path("/proc/self/fd").exists():
        opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        assert not [path for path in opened if path.is_relative_to(tmp_path)]
    assert holds(store, "hafa")


def test_a_part_is_written_when_time_is_up(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cache.time, "monotonic", lambda: clock[0])
    with PartStore(tmp_path, ragged=False) as store:
        store.add("a", item("a"))
        assert not list(tmp_path.iterdir())
        clock[0] = cache.PART_SECONDS
        store.add("b", item("b"))
        assert holds(PartStore(tmp_path, ragged=False), "ab")


def test_stored_items_are_not_added_again(tmp_path):
    fill(tmp_path, "ab")
    store = fill(tmp_path, "bac")
    assert sorted(len(part) for part in store.parts) == [1, 2]
    assert holds(store, "cab")
    assert "c" in store
    assert "d" not in store


def test_items_of_differing_length_come_back(tmp_path):
    items = {key: torch.rand(length, 2) for key, length in (("a", 3), ("b", 1), ("c", 4))}
    with PartStore(tmp_path, ragged=True) as store:
        for key, values in items.items():
            store.add(key, values)
    again = PartStore(tmp_path, ragged=True)
    gathered = again.gather(again.places(list("cab")))
    assert all(torch.equal(values, items[key]) for key, values in zip("cab", gathered))


def test_an_error_keeps_what_was_added(tmp_path):
    with pytest.raises(KeyboardInterrupt), PartStore(tmp_path, ragged=False) as store:
        store.add("a", item("a"))
        raise KeyboardInterrupt
    assert holds(PartStore(tmp_path, ragged=False), "a")


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path):
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
    assert holds(fill(tmp_path, "abd"), "dab")


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
    assert holds(fill(tmp_path, "ab"), "ab")


def test_old_remains_of_killed_processes_are_removed(tmp_path):
    fill(tmp_path, "a")
    remains = [tmp_path / ".b.npy.partial", tmp_path / "c.npy"]
    for path in remains:
        path.write_bytes(b"half")
    PartStore(tmp_path, ragged=False)
    assert all(path.exists() for path in remains)  # another process may be writing them
    for path in remains:
        os.utime(path, (time.time() - 7200,) * 2)
    assert holds(PartStore(tmp_path, ragged=False), "a")
    assert not any(path.exists() for path in remains)


def _fill_part_by_part(folder, keys, ready, go_on) -> None:
    cache.PART_BYTES = 1
    with PartStore(folder, ragged=False) as store:
        for position, key in enumerate(keys):
            if position == 3:
                ready.set()
                go_on.wait(60)
            store.add(key, item(key))


def test_a_killed_process_leaves_whole_parts(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, never = context.Event(), context.Event()
    process = context.Process(target=_fill_part_by_part, args=(tmp_path, "abcdef", ready, never))
    process.start()
    assert ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = PartStore(tmp_path, ragged=False)
    assert [key for key in "abcdef" if key in store] == ["a", "b", "c"]
    assert holds(fill(tmp_path, "abcdef"), "fedcba")


def test_two_processes_fill_one_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, go_on = [context.Event() for _ in range(2)], context.Event()
    processes = [
        context.Process(target=_fill_part_by_part, args=(tmp_path, keys, event, go_on))
        for keys, event in zip(("abcdef", "fedcba"), ready)
    ]
    for process in processes:
        process.start()
    assert all(event.wait(60) for event in ready)
    go_on.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert holds(PartStore(tmp_path, ragged=False), "abcdef")


def test_other_settings_are_another_folder(tmp_path):
    first, again, other = (keyed_folder(tmp_path, "image", {"size": size}) for size in (4, 4, 6))
    assert first == again != other
    assert {path.parent for path in tmp_path.glob("image-*/settings.json")} == {first, other}
