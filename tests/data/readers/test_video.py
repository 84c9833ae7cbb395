from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from confu.data.readers import VideoReader
from confu.data.readers.video import decoded_frames, middle_frames

from .fixtures import grey_video

pytest.importorskip("av")
STEP = 5  # grey levels between frames: far more than a codec loses


def frame_numbers(item: torch.Tensor) -> list[int]:
    return [round((frame.float().mean().item() - 40) / STEP) for frame in item]


def video(path, frames: int, codec: str = "libx264", **options: Any):
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
    frames = [list(pixels), [Image.fromarray(frame) for frame in pixels]]
    tensor = torch.from_numpy(pixels)
    for source in (pixels, tensor, pixels[..., 0], tensor.permute(0, 3, 1, 2), *frames):
        assert reader.read(source)[:, 0, 0, 0].tolist() == [2, 7, 12, 17]


QUARTERS = np.array([[40, 100], [160, 220]], np.uint8)  # grey levels of the quarters of a frame
SIGNS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
ORIENTATIONS = [*((a, 0, 0, d) for a, d in SIGNS), *((0, b, c, 0) for b, c in SIGNS)]


@pytest.fixture(scope="module")
def quartered(tmp_path_factory):
    """A film of one frame of QUARTERS, twice as wide as high, and where its display matrix stands."""
    import av

    path = tmp_path_factory.mktemp("film") / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        pixels = np.kron(QUARTERS, np.ones((16, 32), np.uint8))[..., None].repeat(3, axis=2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    matrix = content.index(b"tkhd") + 4 + 4 + 20 + 16
    assert int.from_bytes(content[matrix : matrix + 4], "big") == 1 << 16
    return content, matrix


@pytest.mark.parametrize(("a", "b", "c", "d"), ORIENTATIONS)
def test_a_display_matrix_is_applied_whole(quartered, a, b, c, d):
    """Turned by any multiple of 90 degrees, mirrored or not: each quarter goes where the matrix sends its centre."""
    content, at = bytearray(quartered[0]), quartered[1]
    numbers = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    content[at : at + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    expected = np.zeros((2, 2), int)
    for y in (-1, 1):
        for x in (-1, 1):
            expected[(b * x + d * y + 1) // 2, (a * x + c * y + 1) // 2] = QUARTERS[(y + 1) // 2, (x + 1) // 2]
    item = VideoReader(frames=1, size=32, resize="stretch").read(bytes(content))[0, 0]
    assert np.abs(item[8::16, 8::16].int().numpy() - expected).max() < 8
    (frame,) = decoded_frames(bytes(content), 1)
    assert frame.size == ((64, 32) if a else (32, 64))


def test_dropped_frames_of_an_avi_are_not_missing(tmp_path):
    """Frames of a recording with gaps stand at their times; what is announced are the times."""
    import av

    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for number, place in enumerate(range(0, 120, 3)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 + STEP * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 110
    assert frame_numbers(VideoReader(frames=4, size=8).read(path)) == middle_frames(40, 4)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + (content.index(b"idx1") - content.index(b"movi")) // 2])
    with pytest.raises(ValueError, match="cut short"):
        VideoReader(size=8).read(path)


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
        (np.full((4, 4, 4, 3), -1.0), "expected pixels from 0 to 255"),
        (np.zeros((4, 4), np.uint8), r"expected \(frames, height, width\)"),
        (["a.png", "b.png"], "list of 2: expected a video's file"),
        (b"nothing", "7 bytes: damaged or cut short"),
    ],
)
def test_videos_that_cannot_be_used_are_named(source, message):
    with pytest.raises(ValueError, match=message):
        VideoReader(size=8).read(source)


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="frames: expected 1 or more"):
        VideoReader(frames=0)
