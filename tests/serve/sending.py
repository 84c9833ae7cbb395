"""What tests send."""

import io

import numpy as np
import soundfile
from PIL import Image

from search.tiny_collection import RATE, picture, tone


def png(colour: str = "red", size: int = 16, seed: int = 7) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(colour, np.random.default_rng(seed), size)).save(file, "PNG")
    return file.getvalue()


def wav(pitch: str = "low", seconds: float = 0.4, seed: int = 7, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(pitch, np.random.default_rng(seed), seconds), RATE, format=form)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype.kind == "O")
    return file.getvalue()


def refused(response, status: int, code: str, field: str | None = None) -> str:
    """The message of an error in the form that all have."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"code", "message", "field"}
    assert (error["code"], error["field"]) == (code, field), error
    check_tells_nothing(response.text)
    return error["message"]


def check_tells_nothing(text: str) -> None:
    """No path of this machine, and nothing of the program's inside."""
    for mark in ("Traceback", "/tmp", "/home", "/root", "/usr", "site-packages", ".py"):
        assert mark not in text, text
