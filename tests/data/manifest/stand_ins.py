"""Files and readers as small as they can be."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def png(seed: int = 0) -> bytes:
    """A picture of 4 x 4 pixels."""
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def npy(values: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(values))
    return content.getvalue()


def write(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tar_of(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


class PictureReader:
    """Decodes with Pillow, as a reader does."""

    modality_kind, stackable, settings = "image", True, {}

    def read(self, source):
        try:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        except OSError as error:
            raise ValueError(f"{source}: no picture ({error})") from error

    def collate(self, items):
        return torch.stack(list(items)).float()


class ArrayReader:
    """Takes arrays as they come, so that the check itself must find what is wrong with them."""

    def __init__(self, modality_kind="vector", stackable=True):
        self.modality_kind, self.stackable, self.settings = modality_kind, stackable, {}

    def read(self, source):
        return torch.as_tensor(source, dtype=torch.float32)

    def collate(self, items):
        return torch.stack(list(items))


class TextReader:
    modality_kind, stackable, settings = "text", False, {}

    def read(self, source):
        return source

    def collate(self, items):
        if any("?" in item for item in items):
            raise ValueError("holds a word that is not known")
        return {"input_ids": torch.zeros(len(items), 1, dtype=torch.long)}
