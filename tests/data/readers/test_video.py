import sys

import numpy as np
import pytest
import torch

from confu.data.readers import VideoReader
from confu.data.readers.video import middle_frames

from .fixtures import grey_video

pytest.importorskip("av")
STEP = 5  # grey levels between frames: far more than a codec loses


def frame_numbers(item: torch.Tensor) -> list[int]:
    return [round((frame.float().mean().item() - 40) / STEP) for frame in item]


def video(path, frames: int, codec: str = "libx264", **options: str):
    return grey_video(path, [40 + STEP * frame for frame in range(frames)], codec, **options)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("frames", [1, 3, 8, 37])
def test_the_middle_frames_of_equal_segments_are_taken(tmp_path, name, codec, frames):
    path = video(tmp_path / name, frames, codec)
    reader = VideoReader(frames=8, size=8)
    item = reader.read(path)
    expected = [int((segment + 0.5) * frames / 8) for segment in range(8)]
    assert item.shape == (8, 3, 8, 8)
    assert frame_numbers(item) == expected == middle_frames(frames, 8)
    assert torch.equal(item, reader.read(path.read_bytes()))


def test_packets_that_give_no_frame_are_not_counted(tmp_path, monkeypatch):
    """Were the count of packets believed, the last frames would be looked for where there are none."""
    path = video(tmp_path / "a.mp4", 20)
    reader = VideoReader(frames=4, size=8)
    expected = reader.read(path)
    monkeypatch.setattr("confu.data.readers.video._count_packets", lambda file, name: (30, 20))
    assert torch.equal(reader.read(path), expected)


def test_pixels_of_all_frames_are_read_likewise():
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 6, 7, 3), np.uint8)
    reader = VideoReader(frames=4, size=5)
    for source in (pixels, torch.from_numpy(pixels), pixels[..., 0], torch.from_numpy(pixels).permute(0, 3, 1, 2)):
        assert reader.read(source)[:, 0, 0, 0].tolist() == [2, 7, 12, 17]


def test_the_rotation_of_a_phone_is_applied(tmp_path):
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, 32:] = 255  # bright at the right
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 20 + 16
    assert int.from_bytes(content[matrix : matrix + 4], "big") == 1 << 16
    clockwise = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]  # a quarter to the right, as portraits are stored
    content[matrix : matrix + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in clockwise)
    item = VideoReader(frames=1, size=32, resize="stretch").read(bytes(content))[0, 0]
    assert item[:12].max() < 20  # what was at the left is at the top
    assert item[20:].min() > 235


def test_a_video_without_frames_is_an_error(tmp_path):
    content = video(tmp_path / "a.mkv", 9).read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: content.index(b"\x1f\x43\xb6\x75") + 20])  # up to the first frame
    with pytest.raises(ValueError, match=r"a\.mkv: a video without a frame"):
        VideoReader(size=8).read(tmp_path / "a.mkv")


def test_a_sound_is_no_video(tmp_path):
    from .fixtures import sound_bytes, tone

    with pytest.raises(ValueError, match="holds no video"):
        VideoReader(size=8).read(sound_bytes(tone()))


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mp4", "libx264", {}), ("b.mp4", "libx264", {"movflags": "faststart"}), ("a.avi", "mpeg4", {})],
)
def test_a_file_cut_short_is_named(tmp_path, share, name, codec, options):
    path = video(tmp_path / name, 40, codec, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}: (damaged or cut short|cut short|.*or (is )?cut short)"):
        VideoReader(size=8).read(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), "one frame or more"),
        (np.zeros((4, 4, 4, 3), np.float32), "expected pixels as uint8"),
        (np.zeros((4, 4), np.uint8), r"expected \(frames, height, width\)"),
        (["a.png", "b.png"], "list of 2: expected a video's file"),
        (b"nothing", "7 bytes: damaged or cut short"),
    ],
)
def test_videos_that_cannot_be_used_are_named(source, message):
    with pytest.raises(ValueError, match=message):
        VideoReader(size=8).read(source)


def test_without_pyav_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"contrastive-fusion\[video\]"):
        VideoReader(size=8).read(b"bytes")
    with pytest.raises(ValueError, match="frames: expected 1 or more"):
        VideoReader(frames=0)
