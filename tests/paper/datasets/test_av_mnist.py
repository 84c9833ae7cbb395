import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from confu_paper.datasets import build_av_mnist, load_av_mnist
from confu_paper.datasets.spoken_digits import DIGIT_WORDS
from data.fixtures import write_sources

SPLITS = ("train", "validation", "test")
KILLED = """
import os, signal, sys
from confu_paper.datasets import av_mnist_build
from confu_paper.datasets.av_mnist_sound import log_spectrogram
calls = []
def kill(waveforms):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return log_spectrogram(waveforms)
av_mnist_build.log_spectrogram = kill
av_mnist_build.build_av_mnist(*sys.argv[1:], snr_db=0.0, progress=False)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def built(sources, tmp_path_factory):
    return build_av_mnist(**sources, out=tmp_path_factory.mktemp("built") / "av", snr_db=-5.0, progress=False)


def everything(split):
    return split.batch(torch.arange(len(split)))


def test_layout_and_values(built):
    splits = load_av_mnist(built)
    assert [len(getattr(splits, name)) for name in SPLITS] == [33, 3, 20]
    batch = everything(splits.train)
    assert batch.inputs["image"].values.shape == (33, 1, 28, 28)
    assert batch.inputs["audio"].values.shape == (33, 1, 112, 112)
    for modality in ("image", "audio"):
        values = batch.inputs[modality].values
        assert 0 <= values.min() < values.max() <= 1
    assert splits.train.labels is not None
    assert splits.train.labels.tolist() == [row % 10 for row in range(33)]
    assert everything(splits.validation).ids == ["validation-0", "validation-1", "validation-2"]


def test_captions_name_the_digit(built):
    data = load_av_mnist(built, modalities=["text"]).test
    assert data.modalities == ("text",)
    batch = everything(data)
    inputs = batch.inputs["text"]
    tokens = data.columns["text"].tokenizer.to_list()
    for row, place in enumerate(inputs.rows.tolist()):
        said = [tokens[token] for token in inputs.values["input_ids"][place] if token]
        assert said[-1] == DIGIT_WORDS[batch.labels[row]]
    assert len(inputs.values["input_ids"]) < len(batch)


def test_splits_share_no_recording_and_no_noise(built):
    rows = pq.read_table(built / "provenance.parquet").to_pylist()
    assert len(rows) == 56
    labels = {part: np.load(built / f"{part}_labels.npy") for part in ("train", "test")}
    for row in rows:
        part = "test" if row["split"] == "test" else "train"
        assert row["digit"] == labels[part][row["row"]] == int(row["recording"][0])
        index = int(row["recording"][:-4].split("_")[2])
        assert row["split"] == ("test" if index < 5 else "validation" if index < 10 else "train")
    for thing in ("recording", "noise"):
        used = [{row[thing] for row in rows if row["split"] == split} for split in SPLITS]
        assert all(used)
        assert not used[0] & used[1] | used[0] & used[2] | used[1] & used[2]


def test_the_same_seed_builds_the_same_files(built, sources, tmp_path):
    again = build_av_mnist(**sources, out=tmp_path / "again", snr_db=-5.0, progress=False)
    other = build_av_mnist(**sources, out=tmp_path / "other", snr_db=-5.0, seed=1, progress=False)
    checksums = [json.loads((folder / "dataset.json").read_text())["sha256"] for folder in (built, again, other)]
    assert checksums[0] == checksums[1]
    assert checksums[0]["audio/train_data.npy"] != checksums[2]["audio/train_data.npy"]


def test_limit_keeps_the_first_images(built, sources, tmp_path):
    small = load_av_mnist(build_av_mnist(**sources, out=tmp_path / "small", snr_db=-5.0, limit=12, progress=False))
    assert [len(getattr(small, name)) for name in SPLITS] == [11, 1, 12]


def test_an_existing_build_is_kept_if_it_is_the_same(built, sources, capsys):
    stamp = (built / "dataset.json").stat().st_mtime_ns
    build_av_mnist(**sources, out=built, snr_db=-5.0, progress=False)
    assert "built already" in capsys.readouterr().out
    assert (built / "dataset.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match=r"other settings \(snr_db is -5.0, asked 3.0\)"):
        build_av_mnist(**sources, out=built, snr_db=3.0, progress=False)
    with pytest.raises(ValueError, match="was not built by this command"):
        build_av_mnist(**sources, out=sources["noise"], snr_db=3.0, progress=False)


def test_a_failed_build_leaves_nothing(sources, tmp_path, monkeypatch):
    def fail(waveforms):
        raise KeyboardInterrupt

    monkeypatch.setattr("confu_paper.datasets.av_mnist_build.log_spectrogram", fail)
    with pytest.raises(KeyboardInterrupt):
        build_av_mnist(**sources, out=tmp_path / "av", snr_db=0.0, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_killed_build_is_cleaned_by_the_next(sources, tmp_path):
    out = tmp_path / "av"
    arguments = [sys.executable, "-c", KILLED, *(str(sources[name]) for name in ("mnist", "speech", "noise")), str(out)]
    killed = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists() and list(tmp_path.glob(".av.unfinished/*"))
    build_av_mnist(**sources, out=out, snr_db=0.0, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["av"]
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
@pytest.mark.parametrize("mmap", [True, False])
def test_published_layout_reads_the_same(built, tmp_path, dtype, mmap):
    for path in built.rglob("*.npy"):
        target = tmp_path / path.relative_to(built)
        target.parent.mkdir(exist_ok=True)
        np.save(target, np.load(path).astype(dtype))
    ours, theirs = load_av_mnist(built), load_av_mnist(tmp_path, mmap=mmap)
    for name in SPLITS:
        a, b = everything(getattr(ours, name)), everything(getattr(theirs, name))
        assert torch.equal(a.labels, b.labels)
        for modality in ("image", "audio"):
            assert torch.allclose(a.inputs[modality].values, b.inputs[modality].values, atol=1e-7)
        assert torch.equal(a.inputs["text"].rows, b.inputs["text"].rows)


def test_limits_take_the_first_rows(built):
    splits = load_av_mnist(built, train_limit=5, validation_limit=2, test_limit=99)
    assert [len(getattr(splits, name)) for name in SPLITS] == [5, 2, 20]
    whole = everything(load_av_mnist(built).train).inputs["audio"].values[:5]
    assert torch.equal(everything(splits.train).inputs["audio"].values, whole)
    with pytest.raises(ValueError, match="train_limit: expected at least 1"):
        load_av_mnist(built, train_limit=0)


def test_a_time_shift_changes_the_training_sounds_only(built):
    still, shifted = load_av_mnist(built), load_av_mnist(built, time_shift=20)
    for name in SPLITS:
        before, after = (everything(getattr(splits, name)).inputs for splits in (still, shifted))
        assert torch.equal(before["image"].values, after["image"].values)
        same = torch.equal(before["audio"].values, after["audio"].values)
        assert same == (name != "train")
    sounds = [everything(splits.train).inputs["audio"].values.sort(dim=3).values for splits in (still, shifted)]
    assert torch.equal(*sounds)
    with pytest.raises(ValueError, match="time_shift: expected 0 to 112"):
        load_av_mnist(built, time_shift=-1)


def copy(built, target):
    for path in built.rglob("*.npy"):
        (target / path.relative_to(built)).parent.mkdir(exist_ok=True)
        (target / path.relative_to(built)).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
        (lambda path: np.save(path, np.zeros((36, 100))), "expected 36 rows of 12544 pixels"),
        (lambda path: np.save(path, np.zeros((35, 112, 112))), "expected 36 rows"),
        (lambda path: np.save(path, np.load(path) / 255), "multiply them by 255"),
    ],
)
@pytest.mark.parametrize("mmap", [True, False])
def test_a_damaged_file_is_named(built, tmp_path, damage, message, mmap):
    damage(copy(built, tmp_path) / "audio" / "train_data.npy")
    with pytest.raises(ValueError, match=rf"train_data.npy: .*{message}"):
        load_av_mnist(tmp_path, mmap=mmap)


def test_bad_arguments_are_named(built, sources, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        load_av_mnist(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="modalities: expected some of image, audio, text"):
        load_av_mnist(built, modalities=["video"])
    np.save(copy(built, tmp_path) / "test_labels.npy", np.full(20, 11))
    with pytest.raises(ValueError, match=r"test_labels.npy: expected one digit"):
        load_av_mnist(tmp_path)
    with pytest.raises(ValueError, match="snr_db: expected a finite number"):
        build_av_mnist(**sources, out=tmp_path / "x", snr_db=float("nan"))
    with pytest.raises(ValueError, match="limit: expected at least 2"):
        build_av_mnist(**sources, out=tmp_path / "x", snr_db=0.0, limit=1)
    with pytest.raises(ValueError, match="speech: no such folder"):
        build_av_mnist(sources["mnist"], Path("nowhere"), sources["noise"], tmp_path / "x", snr_db=0.0)
    assert not (tmp_path / "x").exists()


def test_a_row_sounds_like_its_digit(sources, tmp_path):
    """The fixtures say digit d as a tone of 300 + 250 d Hz: the loudest bin when the noise is far below."""
    splits = load_av_mnist(build_av_mnist(**sources, out=tmp_path / "clear", snr_db=40.0, progress=False))
    batch = everything(splits.test)
    assert batch.labels is not None
    for digit, picture in zip(batch.labels.tolist(), batch.inputs["audio"].values[:, 0], strict=True):
        loudest = int(picture.mean(dim=1).argmax()) * 8000 / 256
        assert abs(loudest - (300 + 250 * digit)) <= 8000 / 256
