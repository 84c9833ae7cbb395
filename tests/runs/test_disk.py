"""A full disk: a clear message, nothing lost, and the same command goes on."""

import errno
import os

import pytest
import torch
from safetensors.torch import load_file

import confu.data.cache
import confu.files
from confu.runs import train


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def last(folder):
    return load_file(folder / "last" / "model.safetensors")


def test_a_full_disk_says_what_to_do_and_the_run_goes_on(clips, monkeypatch):
    sets = ["out=runs/full", "data.cache=full-cache"]
    monkeypatch.setattr(confu.data.cache.PartStore, "add", full)  # while files are decoded
    with pytest.raises(ValueError, match=r"the disk is full, .*--set data\.cache=FOLDER"):
        train(clips / "run.yaml", sets, progress=False)
    monkeypatch.undo()
    replace = confu.files.os.replace

    def one_file(source, target):
        if str(target).endswith("state.pt"):
            full()
        replace(source, target)

    monkeypatch.setattr(confu.files.os, "replace", one_file)  # while the state is written
    with pytest.raises(ValueError, match=r"(?s)the disk is full, .*Nothing that was finished is lost: make room"):
        train(clips / "run.yaml", sets, progress=False)
    assert not list((clips / "runs" / "full").glob(".*"))  # no half-written file stays
    monkeypatch.undo()
    resumed, whole = last(train(clips / "run.yaml", sets, progress=False)), last(clips / "runs" / "clips")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_errors_of_libraries_for_a_full_disk_are_understood(clips, monkeypatch):
    def save(*_, **__):
        raise RuntimeError(text)

    monkeypatch.setattr("confu.training.state.torch.save", save)
    sets = ["out=runs/unsaved", "train.epochs=1"]
    text = "[enforce fail at inline_container.cc:672] . unexpected pos 853504 vs 853400"
    with pytest.raises(ValueError, match="the disk is full"):
        train(clips / "run.yaml", sets, progress=False)
    text = "I/O error (os error 28)"
    with pytest.raises(ValueError, match="the disk is full"):
        train(clips / "run.yaml", sets, progress=False)
    text = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        train(clips / "run.yaml", sets, progress=False)
