"""Videos as a few frames, chosen by counting; through PyAV, which is imported when a file is read and not before."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from confu.data.media import HEAD, why_unreadable
from confu.data.readers.image import Fill, Picture, normalised, picture_from_array, pixels_of, remark_if_flat
from confu.data.readers.scaling import Scale, Scaling
from confu.data.readers.source import Source, is_file, is_picture, name_of, opened, plain, stacked


class VideoReader:
    """Videos as the middle frames of equal segments, each as an image of one size.

    Args:
        frames: segments.
        size: like all others, see `Picture`; `scale` as of `ImageReader`. The default mean and std of 0.5 give numbers
            from -1 to 1.

    >>> VideoReader(frames=2, size=4).read(np.zeros((10, 6, 6, 3), dtype=np.uint8)).shape
    torch.Size([2, 3, 4, 4])
    """

    stackable = True
    modality_kind = "video"

    def __init__(
        self,
        frames: int = 8,
        size: int = 224,
        channels: int = 3,
        mean: Fill = 0.5,
        std: Fill = 0.5,
        resize: str = "crop",
        shorter: int | None = None,
        interpolation: str = "bilinear",
        scale: Scale = None,
    ) -> None:
        if frames < 1:
            raise ValueError(f"frames: expected 1 or more; got {frames}")
        self.frames = frames
        self.picture = Picture(size, channels, mean, std, resize, shorter, interpolation)
        self.scaling = Scaling(channels, 3, scale)
        about = {"frames": frames, **asdict(self.picture), **self.scaling.settings}
        self.settings: dict[str, Any] = {"kind": "video", **about}

    def read(self, source: Source) -> UInt8[Tensor, "frames channels size size"]:
        """The chosen frames of a file, its bytes, pixels of all frames (see `picture_from_array`), or a list of frames.

        Raises:
            ImportError: a file, and PyAV is not installed.
            ValueError: no such file, no video, cut short, or without a frame.
        """
        source = plain(source)
        name = name_of(source)
        if is_file(source):
            images = decoded_frames(source, self.frames)
        elif isinstance(source, list | tuple) and source and all(map(_is_frame, source)):
            images = [source[index] for index in middle_frames(len(source), self.frames)]
            images = [one if is_picture(one) else picture_from_array(one, name) for one in images]
        elif isinstance(source, np.ndarray | Tensor):
            if source.ndim not in (3, 4) or not len(source):
                raise ValueError(
                    f"{name}: expected (frames, height, width) pixels, or with channels, one frame or more"
                )
            images = [picture_from_array(source[index], name) for index in middle_frames(len(source), self.frames)]
        else:
            raise ValueError(f"{name}: expected a video's file, bytes or pixels; got {type(source).__name__}")
        pixels = torch.stack([pixels_of(image, self.picture, name) for image in images])
        remark_if_flat(pixels)
        return pixels

    def collate(
        self, items: Sequence[Tensor] | UInt8[Tensor, "n frames channels size size"]
    ) -> Float[Tensor, "n frames channels size size"]:
        """What the encoder gets: `(pixels / 255 - mean) / std`."""
        side, channels = self.picture.size, self.picture.channels
        pixels = stacked(items, (self.frames, channels, side, side), torch.uint8)
        return normalised(pixels, self.picture, self.scaling)


def _is_frame(source: Source) -> bool:
    return is_picture(source) or (isinstance(source, np.ndarray | Tensor) and source.ndim in (2, 3))


def middle_frames(count: int, segments: int) -> list[int]:
    """The middle frames of equal segments; of fewer frames than segments some are taken several times.

        index_k = floor((k + 1/2) count / segments)

    >>> middle_frames(80, 8), middle_frames(2, 4)
    ([5, 15, 25, 35, 45, 55, 65, 75], [0, 0, 1, 1])
    """
    return [(2 * segment + 1) * count // (2 * segments) for segment in range(segments)]


def decoded_frames(source: Source, segments: int) -> list[Image.Image]:
    """Decode the middle frames of equal segments of a video's file.

    The container's own count of frames and its index are often wrong, so frames are decoded in order and counted. The
    packets are counted first, which costs little; if the decoder gives another number of frames, the choice is made
    again with that number.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: no such file, no video, cut short, or without a frame.
    """
    name = name_of(source)
    with opened(source) as file:
        packets, announced = _count_packets(file, name)
        indices = middle_frames(packets, segments)
        chosen, count = _decode(file, name, set(indices))
        check_frame_count(name, count, announced)
        if count != packets:
            indices = middle_frames(count, segments)
            chosen, _ = _decode(file, name, set(indices))
    return [chosen[index] for index in indices]


def _count_packets(file: Any, name: str) -> tuple[int, int]:
    """Packets with content, and the frames that the container announces (see `announced_frames`)."""
    with open_container(file, name) as container:
        stream = video_stream(container, name)
        try:
            times = [packet.dts for packet in container.demux(stream) if packet.size > 0]
            return len(times), announced_frames(container, stream, times)
        except Exception as error:
            raise unreadable(name, error) from error


def _decode(file: Any, name: str, indices: set[int]) -> tuple[dict[int, Image.Image], int]:
    """These frames by index, and the number of all frames."""
    chosen: dict[int, Image.Image] = {}
    count = 0
    with open_container(file, name) as container:
        stream = video_stream(container, name)
        try:
            for count, frame in enumerate(container.decode(stream), start=1):
                if count - 1 in indices:
                    chosen[count - 1] = image_of(frame)
        except Exception as error:
            raise unreadable(name, error) from error
    return chosen, count


def open_container(file: Any, name: str) -> Any:
    """A file opened by PyAV; the caller closes it. ValueError where it is no video, ImportError without PyAV."""
    try:
        import av
    except ImportError as error:
        raise ImportError('reading videos needs PyAV: pip install "contrastive-fusion[video]"') from error
    file.seek(0)
    try:
        return av.open(file, mode="r")
    except Exception as error:
        file.seek(0)
        if why := why_unreadable("video", file.read(HEAD)):
            raise ValueError(f"{name}: {why}") from error
        raise unreadable(name, error) from error


def video_stream(container: Any, name: str) -> Any:
    """The first stream of pictures of a container; ValueError if there is none."""
    if not container.streams.video:
        raise ValueError(f"{name}: holds no video, or is cut short")
    return container.streams.video[0]


def image_of(frame: Any) -> Image.Image:
    """A decoded frame as it is to be seen: turned and mirrored as its display matrix says.

    x' = a x + c y    y' = b x + d y    of which the signs and the larger diagonal count: x right, y down
    """
    image = frame.to_image()
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image = image.transpose(Image.Transpose.TRANSPOSE)
        a, d = c, b
    if a < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if d < 0 else image


def announced_frames(container: Any, stream: Any, times: Sequence[int | None]) -> int:
    """The frames that a container announces, 0 if it does not say.

    Args:
        container: opened.
        stream: of it.
        times: of the frames that were found, in units of the stream. An AVI file counts frames that were dropped too:
            these times, and no frames, stand between those that it holds.
    """
    known = sorted(time for time in times if time is not None)
    if container.format.name != "avi" or not known:
        return stream.frames
    gap = max((after - before for before, after in pairwise(known)), default=1)
    return len(known) + max(0, stream.frames - known[-1] - gap)


def check_frame_count(name: str, count: int, announced: int) -> None:
    """ValueError for a video without frames, or cut short.

    Edits and broken last packets cost a few of the frames that are announced; a download that stopped costs more.
    """
    if count == 0:
        raise ValueError(f"{name}: a video without a frame, or cut short; remove it or fetch it again")
    if count < announced - max(2, announced // 50):
        raise ValueError(f"{name}: cut short: {announced} frames announced, found {count}; fetch the file again")


def unreadable(name: str, error: Exception) -> ValueError:
    """What to raise for a file that PyAV gave up on."""
    return ValueError(f"{name}: damaged or cut short, not readable as a video ({type(error).__name__}: {error})")
