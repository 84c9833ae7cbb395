"""Videos as frames: which are taken, how often they are decoded, and what becomes of what cannot be read."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from confu.data import Dataset
from confu.data.corruptions import CorruptedDataset, GaussianNoise
from confu.data.readers import ImageReader, MelReader, VectorReader, WaveformReader, WordsReader
from confu_paper.datasets import media
from confu_paper.datasets.birds import RowList
from confu_paper.datasets.media import SECONDS, decode, frame_dataset, media_dataset, with_features
from confu_paper.datasets.ssw60 import read_ssw60
from confu_paper.datasets.video import FramesReader, NoSoundError, VideoSoundReader, sound_track
from paper.datasets.bird_files import RATE, STEP, write_photo, write_sound, write_ssw60, write_video

pytest.importorskip("av")
IMAGE = ImageReader(size=8, mean=0.0, std=1.0)
MEL = MelReader(rate=RATE, seconds=0.5, mels=16, window=256, hop=64)


def frame_numbers(pixels: torch.Tensor) -> list[int]:
    scale = 1 if pixels.dtype == torch.uint8 else 255
    return [round((frame.float().mean().item() * scale - 40) / STEP) for frame in pixels]


def rows_of(videos: dict, sounds: dict | None = None):
    rows = RowList("video", "audio")
    for number, (name, path) in enumerate(videos.items()):
        rows.add(name, number, "", video=path, audio=(sounds or {}).get(name, path))
    return rows.finish(list(videos), next(iter(videos.values())).parent)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A clip of 10 frames, one of 20, one without a sound track; their ids say which."""
    place = tmp_path_factory.mktemp("clips")
    return rows_of({
        "ten": write_video(place / "ten.mp4", 10, hz=400),
        "twenty": write_video(place / "twenty.mp4", 20, hz=800),
        "silent": write_video(place / "silent.mp4", 3, hz=None),
    })  # fmt: skip


@pytest.fixture(scope="module")
def frames(clips, tmp_path_factory):
    return frame_dataset(clips, IMAGE, MEL, tmp_path_factory.mktemp("cache"), frames=4, progress=False)


def test_the_middle_frames_of_each_video_are_its_rows(frames):
    assert isinstance(frames.data, Dataset)
    assert frames.data.modalities == ("image", "audio")
    assert len(frames.data) == 12
    assert list(frames.data.ids)[:5] == ["ten#0", "ten#1", "ten#2", "ten#3", "twenty#0"]
    assert frames.data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert frames.of_clip.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert frames.clips == ["ten", "twenty", "silent"]
    batch = frames.data.batch(torch.arange(12))
    assert batch.inputs["image"].values.shape == (12, 3, 8, 8)
    assert frame_numbers(batch.inputs["image"].values[batch.inputs["image"].rows]) == [
        *(1, 3, 6, 8), *(2, 7, 12, 17), *(0, 1, 1, 2),
    ]  # fmt: skip
    assert batch.ids == list(frames.data.ids) and torch.equal(batch.labels, frames.data.labels)


def test_a_clip_without_sound_lacks_audio(frames):
    assert frames.silent == 1 and not frames.problems
    assert frames.data.present["audio"].tolist() == [True] * 8 + [False] * 4
    assert frames.data.present["image"].all()
    audio = frames.data.batch(torch.tensor([9, 1, 5, 0, 3])).inputs["audio"]
    assert audio.values.shape == (2, *MEL.shape)  # two sounds for three frames of one clip and one of another
    assert audio.rows[0] == -1 and audio.rows[1] == audio.rows[3] == audio.rows[4] != audio.rows[2]
    silent = frames.data.batch(torch.tensor([8, 9])).inputs["audio"]
    assert silent.values.shape == (0, *MEL.shape) and silent.rows.tolist() == [-1, -1]


def test_the_sound_is_the_track_of_the_video(frames):
    audio = frames.data.batch(torch.tensor([0, 4])).inputs["audio"]
    low, high = (audio.values[row, 0].mean(1).argmax().item() for row in audio.rows)  # 400 and 800 Hz
    filters = [MEL.read((torch.sin(torch.arange(RATE) * 2 * torch.pi * hz / RATE).numpy(), RATE)) for hz in (400, 800)]
    assert [low, high] == [one[0].mean(1).argmax().item() for one in filters]


def test_nothing_is_decoded_twice(clips, tmp_path, monkeypatch):
    first = frame_dataset(clips, IMAGE, MEL, tmp_path, frames=4, workers=2, progress=False)
    monkeypatch.setattr(FramesReader, "read", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("confu_paper.datasets.video.sound_track", _only_silence)
    files = [Path(path) for path in clips.sources["video"]]
    (tmp_path / "copy.mp4").write_bytes(files[0].read_bytes())
    moved = rows_of({"other": files[1], "name": files[2], "copy": tmp_path / "copy.mp4"})
    again = frame_dataset(moved, IMAGE, MEL, tmp_path, frames=4, progress=False)
    assert list(again.clips) == ["other", "name", "copy"]
    rows = torch.arange(4)
    assert torch.equal(again.data.batch(rows).inputs["image"].values, first.data.batch(rows + 4).inputs["image"].values)
    assert torch.equal(again.data.batch(rows + 8).inputs["audio"].values, first.data.batch(rows).inputs["audio"].values)


def _only_silence(source, seconds=None):
    if getattr(source, "name", str(source)).endswith("silent.mp4"):
        raise NoSoundError("no sound track")
    pytest.fail(f"{source} decoded again")


def test_each_file_is_hashed_once_for_both_modalities(clips, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(media, "fingerprint", lambda source: (seen.append(source), (str(source)[-8:], source))[1])
    frame_dataset(clips, IMAGE, MEL, tmp_path, frames=2, progress=False)
    assert len(seen) == 3


def test_frames_at_times_are_those_that_are_seen_then(clips, tmp_path):
    data = frame_dataset(clips, IMAGE, None, tmp_path, seconds=(0.05, 0.5, 0.5, 1.25, 30), progress=False).data
    assert data.modalities == ("image",)
    image = data.batch(torch.arange(15)).inputs["image"]
    assert frame_numbers(image.values[image.rows]) == [*(0, 5, 5, 9, 9), *(0, 5, 5, 12, 19), *(0, 2, 2, 2, 2)]
    assert len(SECONDS) == 19 and SECONDS[0] == 0.5 and SECONDS[-1] == 9.5
    assert FramesReader(ImageReader(8), seconds=[0.55, 0.0]).read(clips.sources["video"][0]).shape == (2, 3, 8, 8)
    assert frame_numbers(FramesReader(ImageReader(8), seconds=[0.55, 0.0]).read(clips.sources["video"][0])) == [5, 0]


def test_features_of_frames_are_cached_frame_by_frame(frames, tmp_path):
    encoders = {name: MeanEncoder() for name in ("image", "audio")}
    data = frames.changed(with_features(frames.data.columns, encoders, tmp_path, progress=False)).data
    assert list(data.ids) == list(frames.data.ids)
    batch = data.batch(torch.arange(12))
    features = batch.inputs["image"].values["features"][batch.inputs["image"].rows]
    assert frame_numbers(features) == [1, 3, 6, 8, 2, 7, 12, 17, 0, 1, 1, 2]
    assert batch.inputs["audio"].values["features"].shape == (2, 1)
    first, second = batch.inputs["audio"].rows[[0, 4]]
    assert batch.inputs["audio"].rows.tolist() == [first] * 4 + [second] * 4 + [-1] * 4


class MeanEncoder(torch.nn.Module):
    """A frozen network whose one feature is the mean of its input."""

    frozen, feature_dim = True, 1

    def features(self, values):
        return values.flatten(1).mean(1, keepdim=True)


def test_noise_works_on_frames(frames):
    noisy = CorruptedDataset(frames.data, {"image": GaussianNoise(std=0.1)})
    clean, changed = (data.batch(torch.tensor([5, 0])).inputs["image"] for data in (frames.data, noisy))
    assert (changed.values[changed.rows] - clean.values[clean.rows]).std() == pytest.approx(0.1, rel=0.2)


def test_broken_videos_are_named_and_left_out_never_black(tmp_path, capsys):
    content = write_video(tmp_path / "whole.mp4", 10).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    mkv = write_video(tmp_path / "frameless.mkv", 10, hz=None).read_bytes()
    (tmp_path / "frameless.mkv").write_bytes(mkv[: mkv.index(b"\x1f\x43\xb6\x75") + 20])  # up to the first frame
    write_sound(tmp_path / "sound.mp4.wav").rename(tmp_path / "sound.mp4")
    names = ["cut.mp4", "whole.mp4", "empty.mp4", "frameless.mkv", "sound.mp4", "gone.mp4"]
    rows = rows_of({name: tmp_path / name for name in names})
    for seconds in (None, SECONDS):
        data = frame_dataset(rows, IMAGE, MEL, tmp_path / "cache", seconds=seconds, progress=True)
        assert data.clips == ["whole.mp4"]
        assert data.labels.unique().tolist() == [1] and data.data.class_names == tuple(names)
        assert [problem.split(" is left out")[0] for problem in data.problems] == [
            f"clip {name}" for name in names if name != "whole.mp4"
        ]
        assert "without a frame" in data.problems[2]
        assert "holds no video" in data.problems[3]
        assert "no such file" in data.problems[4]
        shown = capsys.readouterr().err
        assert "videos: 5 problems" in shown and "clip frameless.mkv is left out" in shown
    with pytest.raises(ValueError, match=r"not one of 1 videos can be read; the first: clip cut\.mp4"):
        frame_dataset(rows.select([0]), IMAGE, MEL, tmp_path / "cache", progress=False)


def test_short_or_broken_sounds_are_named_and_missing(tmp_path):
    video = write_video(tmp_path / "a.mp4", 10)
    short = write_sound(tmp_path / "short.wav", seconds=0.05)
    (tmp_path / "noise.mp3").write_bytes(b"no sound at all")
    fine = write_sound(tmp_path / "fine.wav", hz=900)
    names = {"short": short, "noise": tmp_path / "noise.mp3", "fine": fine}
    rows = rows_of(dict.fromkeys(names, video), names)
    data = frame_dataset(rows, IMAGE, MEL, tmp_path / "cache", frames=1, progress=False)
    assert len(data.data) == 3
    assert data.data.present["audio"].tolist() == [False, False, True]
    assert data.silent == 0
    assert "clip short has no sound" in data.problems[0] and "lasts 0.050 s; expected 0.1 s or more" in data.problems[0]
    assert "noise.mp3: not readable as sound" in data.problems[1]


def test_a_sound_track_that_is_too_short_is_named(tmp_path):
    path = write_video(tmp_path / "a.mkv", 10, seconds=0.05, codec="pcm_s16le")
    with pytest.raises(ValueError, match=r"a\.mkv: its sound cannot be used: .*lasts 0\.050 s; expected 0\.1 s"):
        VideoSoundReader(WaveformReader(RATE, seconds=1)).read(path)


def test_no_more_of_a_sound_is_decoded_than_is_needed(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10, seconds=20.0)
    samples, rate = sound_track(path, seconds=1.0)
    assert rate == RATE and 1.0 * RATE <= len(samples) < 2.0 * RATE
    assert abs(len(sound_track(path)[0]) - 20 * RATE) < 0.3 * RATE
    wave = VideoSoundReader(WaveformReader(RATE, seconds=1)).read(path)
    assert wave.shape == (RATE,) and 0.2 < wave[4000:].square().mean().sqrt() < 0.5


def test_readers_say_what_is_wrong_with_them(clips, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="frames: expected 1 or more; got 0"):
        FramesReader(ImageReader(8), frames=0)
    for seconds in ([], [-1.0], [float("nan")]):
        with pytest.raises(ValueError, match="seconds: expected times of 0 or more"):
            FramesReader(ImageReader(8), seconds=seconds)
    with pytest.raises(ValueError, match="expected a video's file or its bytes; got list"):
        FramesReader(ImageReader(8)).read([1, 2])
    photos = RowList("image")
    photos.add("a", 0, "", image="a.jpg")
    with pytest.raises(ValueError, match=r"rows: expected the sources \['audio', 'video'\] too; got image"):
        frame_dataset(photos.finish(["a"], tmp_path), IMAGE, MEL, tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"contrastive-fusion\[video\]"):
        frame_dataset(clips, IMAGE, MEL, tmp_path, progress=False)


def test_ssw60_as_published(tmp_path):
    rows = read_ssw60(write_ssw60(tmp_path / "ssw60"))
    data = frame_dataset(rows, IMAGE, MEL, tmp_path / "cache", progress=False)
    assert len(data.data) == 4 * 8 and data.silent == 1
    assert data.data.present["audio"].reshape(4, 8)[:, 0].tolist() == [True, False, True, True]


def test_still_media_that_cannot_be_read_is_named(tmp_path, capsys):
    rows = RowList("image", "audio", "text")
    good, sound = write_photo(tmp_path / "a.jpg"), write_sound(tmp_path / "a.wav")
    (tmp_path / "b.jpg").write_bytes(good.read_bytes()[:200])
    rows.add("whole", 0, "", image=good, audio=sound, text="a bird sings")
    rows.add("broken photo", 1, "", image=tmp_path / "b.jpg", audio=sound, text="a bird")
    rows.add("no caption", 1, "", image=good, audio=write_sound(tmp_path / "c.wav", seconds=0.03), text=" ")
    rows.add("nothing", 1, "", image=tmp_path / "gone.jpg")
    readers = {"image": IMAGE, "audio": MEL, "text": WordsReader(["a", "bird", "sings"])}
    data, problems = media_dataset(rows.finish(["x", "y"], tmp_path), readers, tmp_path / "cache")
    assert list(data.ids) == ["whole", "broken photo", "no caption"]
    assert data.modalities == ("image", "audio", "text")
    present = {name: mask.tolist() for name, mask in data.present.items()}
    assert present == {"image": [True, False, True], "audio": [True, True, False], "text": [True, True, False]}
    assert [problem.split(":")[0] for problem in problems] == [
        "row broken photo has no image", "row nothing has no image", "row no caption has no audio",
        "row no caption, text",
    ]  # fmt: skip
    assert "files: 4 problems" in capsys.readouterr().err
    batch = data.batch(torch.tensor([2, 0]))
    assert batch.inputs["image"].rows.tolist() == [0, 0]  # the same photo
    with pytest.raises(ValueError, match="readers: the rows have no sensor; they have image, audio, text"):
        media_dataset(rows.finish(["x", "y"], tmp_path), {"sensor": VectorReader(2)}, tmp_path)


def test_the_first_problem_is_told_where_nothing_can_be_read(tmp_path):
    rows = RowList("image")
    rows.add("a", 0, "", image=tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"not one of 1 rows can be read; the first: row a has no image: .*gone\.jpg"):
        media_dataset(rows.finish(["x"], tmp_path), {"image": IMAGE}, tmp_path, progress=False)


def test_arrays_are_no_paths(tmp_path):
    first, second = np.zeros(2000), np.zeros(2000)
    second[1000] = 1  # printed alike
    found = decode([first, None, second, ["x"]], VectorReader(2000), tmp_path, progress=False)
    column = found.column(range(4))
    assert column.present.tolist() == [True, False, True, False]
    assert column.take(torch.tensor([2, 0]), "sensor").values.shape == (2, 2000)
    assert list(found.errors) == [3]
