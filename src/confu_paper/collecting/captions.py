"""What is seen on each photo, in words, by InstructBLIP."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from confu.nn.encoders.registry import import_extra
from confu_paper.collecting.answers import cleaned, what_is_wrong
from confu_paper.collecting.asking import progress_bar
from confu_paper.collecting.language import chosen_device, loaded, loaded_model, name_of
from confu_paper.collecting.steps import StepLog

IMAGE_MODEL = "Salesforce/instructblip-flan-t5-xl"
"""The paper's; 16 GB of weights."""

IMAGE_PROMPT = "Describe the bird's colors, size, and shapes."
"""The paper's (appendix D.1)."""

BEAMS = {"max_new_tokens": 64, "num_beams": 5, "repetition_penalty": 1.5}
"""The search for a caption, without chance: as in transformers' example for this model; the paper does not say."""

_MOST_WORDS = 100  # one that was cut is still taken: what it says of the photo is summed up later


class Captioner:
    """InstructBLIP with its processor.

    Args:
        source: a hub id or a local folder.
        device: "cuda", "cpu"...; by default the first GPU, the processor if there is none.
        prompt: what is asked of every photo.

    Raises:
        ValueError: a model that cannot be had, or that is no InstructBLIP.
        ImportError: transformers is not installed.
    """

    def __init__(
        self,
        source: str = IMAGE_MODEL,
        device: str | None = None,
        prompt: str = IMAGE_PROMPT,
    ):
        transformers = import_extra("transformers", "captions of photos", "hf")
        self.device = chosen_device(device)
        self.prompt = prompt
        config = loaded(transformers.AutoConfig, source)
        if config.model_type != "instructblip":
            raise ValueError(f"model {source!r}: expected an InstructBLIP; got {config.model_type!r}")
        self._processor: Any = loaded(transformers.AutoProcessor, source)
        self._model = loaded_model(transformers.InstructBlipForConditionalGeneration, source, self.device)
        self.name = name_of(source, self._model)

    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        """One line on each picture, `""` where the model has nothing to say."""
        inputs = self._processor(
            images=list(pictures), text=[self.prompt] * len(pictures), return_tensors="pt", padding=True
        ).to(self.device, self._model.dtype)
        with torch.inference_mode():
            written = self._model.generate(**inputs, do_sample=False, **BEAMS)
        return [cleaned(text) for text in self._processor.batch_decode(written, skip_special_tokens=True)]


def caption_photos(
    photos: Sequence[Mapping[str, Any]],
    folder: Path,
    log: StepLog,
    load: Callable[[], Captioner],
    batch_size: int = 16,
    progress: bool = True,
) -> None:
    """Caption the photos that the log has no caption of; the model is loaded only if there are any.

    A photo that cannot be read, or of which the model says nothing or one thing over and over, is stored with that as
    its outcome.

    Args:
        photos: records of the step before: key, file, taxon_id.
        folder: where `file` starts.
        log: gets a record a photo: taxon_id, file, text, outcome and model.
        load: gives the captioner.
        batch_size: photos at a time.
        progress: show a bar on the terminal.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 photo or more at a time; got {batch_size}")
    waiting = [photo for photo in photos if not log.done(photo["key"])]
    if not waiting:
        return
    captioner = load()
    with progress_bar("image captions", progress) as bar:
        shown = bar.add_task("photos", total=len(photos), completed=len(photos) - len(waiting))
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            opened = [_picture(folder / photo["file"]) for photo in batch]
            pictures = [picture for picture in opened if not isinstance(picture, str)]
            texts = iter(captioner.describe(pictures) if pictures else [])
            for photo, picture in zip(batch, opened):
                about = {"taxon_id": photo["taxon_id"], "file": photo["file"]}
                if isinstance(picture, str):
                    log.add(photo["key"], {**about, "outcome": picture})
                else:
                    text = next(texts)
                    wrong = what_is_wrong(text, ended=True, fewest=1, most=_MOST_WORDS)
                    found = {"text": text, "outcome": "kept"} if wrong is None else {"outcome": wrong, "rejected": text}
                    log.add(photo["key"], {**about, **found, "model": captioner.name})
                bar.advance(shown)


def _picture(file: Path) -> Image.Image | str:
    """A photo upright and in colour, or why there is none."""
    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        return "photo is gone"
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        return "photo cannot be read"  # what Pillow raises on broken files; the record names the file
