"""Small files as bytes, and readers of every kind with a source that each reads."""

from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 8000


def image_bytes(image: Image.Image | np.ndarray, form: str = "PNG", **options) -> bytes:
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def sound_bytes(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=array.dtype.kind == "O")
    return file.getvalue()


def tone(hz: float = 440, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def blocks(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """A picture of coloured squares with a little noise, (height, width, 3)."""
    random = np.random.default_rng(seed)
    squares = random.integers(0, 236, (-(-height // 8), -(-width // 8), 3))
    picture = np.kron(squares, np.ones((8, 8, 1)))[:height, :width]
    return (picture + random.integers(0, 20, picture.shape)).astype(np.uint8)


def grey_video(path: Path, levels: list[int], codec: str = "libx264", size: int = 32, **options: str) -> Path:
    """A video whose frame i is grey of level i, with frames that are stored out of order where the codec has them."""
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"bf": "3", "g": "12"} if codec == "libx264" else {"bf": "2"}
        stream.bit_rate = 4_000_000
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def word_tokenizer(pad: str = "[PAD]") -> str:
    """The JSON of a small BERT-like tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: n for n, token in enumerate(["[UNK]", "[CLS]", "[SEP]", pad, "a", "bird", "sings", "loud"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_padding(length=20)  # settings of its own, which a reader must not follow
    tokenizer.enable_truncation(3)
    return tokenizer.to_str()


CASES = {
    "image": ({"size": 8}, image_bytes(blocks())),
    "mel": ({"rate": RATE, "seconds": 0.5, "mels": 16, "window": 256, "hop": 64}, sound_bytes(tone())),
    "mfcc": (
        {"rate": RATE, "mean": -50.0, "std": [20.0] * 13, "max_steps": 9, "trim": 30, "peak": 0.3},
        sound_bytes(tone()),
    ),
    "waveform": ({"rate": RATE, "seconds": 0.4}, sound_bytes(tone())),
    "waveform of any length": ({"kind": "waveform", "rate": RATE}, sound_bytes(tone())),
    "video": ({"frames": 2, "size": 8}, np.zeros((5, 9, 9, 3), np.uint8)),
    "words": ({"vocabulary": ["a", "bird"]}, "a bird"),
    "tokens": ({"tokenizer": word_tokenizer(), "max_length": 6, "pad": "[PAD]"}, "a bird sings"),
    "vector": ({"dim": 3}, [1.0, 2.0, 3.0]),
    "sequence": ({"dim": 2, "max_steps": 5}, [[1.0, 2.0], [3.0, 4.0]]),
    "number": ({"mean": 1.0, "std": 2.0}, 5.0),
    "table": (
        {
            "columns": {
                "age": {"kind": "number", "mean": 40.0, "std": 10.0, "gaps": True},
                "sex": {"kind": "category", "values": ["f", "m"], "other": True, "gaps": True},
            }
        },
        {"age": 50, "sex": "f"},
    ),
}
