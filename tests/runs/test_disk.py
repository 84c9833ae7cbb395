"""A full disk: a clear message, nothing lost, and the same command goes on."""

import errno
import os

import pytest
import torch
from safetensors.torch import load_file

import confu.data.cache
import confu.files
from confu.runs.training import train
from runs.own_data import make_rows, write_run, write_table


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def place(tmp_path):
    write_table(tmp_path, make_rows(tmp_path))
    write_run(tmp_path)
    return tmp_path


def last(place):
    return load_file(place / "last" / "model.safetensors")


def test_a_full_disk_ends_with_what_to_do_and_the_same_command_goes_on(place, monkeypatch):
    whole = train(place / "run.yaml", ["out=runs/whole", "data.cache=other"], progress=False)
    replace = confu.files.os.replace

    def one_file(source, target):
        if str(target).endswith("state.pt"):
            full()
        replace(source, target)

    monkeypatch.setattr(confu.files.os, "replace", one_file)
    with pytest.raises(ValueError, match=r"(?s)the disk is full, .*Nothing that was finished is lost: make room"):
        train(place / "run.yaml", progress=False)
    assert not list((place / "runs" / "clips").glob(".*"))  # no half-written file stays
    monkeypatch.undo()
    folder = train(place / "run.yaml", progress=False)
    ours, theirs = last(folder), last(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "text", ["[enforce fail at inline_container.cc:672] . unexpected pos 853504 vs 853400", "I/O error (os error 28)"]
)
def test_what_torch_and_safetensors_say_of_a_full_disk_is_understood(place, monkeypatch, text):
    def save(*_, **__):
        raise RuntimeError(text)

    monkeypatch.setattr("confu.training.state.torch.save", save)
    with pytest.raises(ValueError, match="the disk is full"):
        train(place / "run.yaml", progress=False)
    monkeypatch.undo()
    assert (train(place / "run.yaml", progress=False) / "last").is_dir()


def test_other_errors_are_not_called_a_full_disk(place, monkeypatch):
    def save(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr("confu.training.state.torch.save", save)
    with pytest.raises(RuntimeError, match="something else"):
        train(place / "run.yaml", progress=False)


def test_a_disk_that_fills_while_files_are_decoded_keeps_what_was_decoded(place, monkeypatch):
    monkeypatch.setattr(confu.data.cache.PartStore, "add", full)
    with pytest.raises(ValueError, match=r"the disk is full, .*--set data\.cache=FOLDER"):
        train(place / "run.yaml", progress=False)
    monkeypatch.undo()
    assert (train(place / "run.yaml", progress=False) / "last").is_dir()
