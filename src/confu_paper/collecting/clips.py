"""Recordings cut into clips of 10 s: mono, 22,050 Hz, the last one filled with silence."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from confu.data.parallel import in_threads, tracked
from confu.data.readers.sound import decode_sound
from confu.files import written_whole
from confu_paper.collecting.collection import Collection
from confu_paper.collecting.fetch import clear_partial
from confu_paper.collecting.step_log import StepLog
from confu_paper.collecting.xeno_canto import CLIP_SECONDS as SECONDS

RATE = 22_050
SHORTEST = 0.1
_COPIED = ("taxon_id", "recording", "scientific_name", "common_name", "tags", "quality")
_COPIED += ("licence", "licence_url", "attribution", "source_url", "page_url")


def cut_clips(job: Collection, workers: int = 2) -> StepLog:
    """Cut the recordings of `recordings.jsonl` to `audio/GENUS_SPECIES/COMMON_NAME_ID_clipK.wav`, 16 bit.

    Clips follow one another from the start. The last one is filled with zeros, and left out if it is shorter than
    0.1 s and there are others.

    Args:
        workers: threads that decode.

    Returns:
        `clips.jsonl`: records have file, start and sounding seconds, and of their recording taxon_id, recording,
        tags, licence, attribution, source_url. Under a recording's own key stands why it gave no clip.

    Raises:
        ValueError: no recordings.jsonl; settings other than those of an earlier run.
    """
    log = job.log("clips", {"seconds": SECONDS, "rate": RATE, "per_recording": None})
    clear_partial(job.out / "audio")
    recordings = [record for record in job.records("recordings") if record["outcome"] == "kept"]
    waiting = [record for record in recordings if not _finished(log, record["key"])]
    decoded = in_threads(lambda record: _decoded(job.out / record["file"]), waiting, workers)
    for record, waveform in zip(waiting, tracked(decoded, "clips", waiting, job.progress)):
        about = {name: record.get(name) for name in _COPIED}
        if isinstance(waveform, str):
            log.add(record["key"], {"outcome": waveform, **about, "recording_file": record["file"]})
        else:
            _write(waveform, record, about, job.out, log)
    return log


def cut(waveform: np.ndarray, length: int, shortest: int) -> list[np.ndarray]:
    """A sound in pieces of `length` samples, the last one filled with zeros, or left out if shorter than `shortest`.

    >>> [piece.tolist() for piece in cut(np.ones(5), length=3, shortest=2)]
    [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    >>> len(cut(np.ones(7), length=3, shortest=2))
    2
    """
    pieces = [waveform[start : start + length] for start in range(0, len(waveform), length)]
    if len(pieces) > 1 and len(pieces[-1]) < shortest:
        pieces.pop()
    return [np.pad(piece, (0, length - len(piece))) for piece in pieces]


def clip_name(record: Mapping[str, Any], number: int) -> str:
    """A clip's file under `audio`, named as in the released set.

    >>> clip_name({"scientific_name": "Ardea alba", "common_name": "Great Egret", "recording": "XC7"}, 0)
    'Ardea_alba/Great_Egret_7_clip0.wav'
    """
    names = (record["scientific_name"], record.get("common_name") or record["scientific_name"])
    folder, name = (re.sub(r"[^\w'-]+", "_", name).strip("_") for name in names)
    return f"{folder}/{name}_{record['recording'].removeprefix('XC')}_clip{number}.wav"


def _finished(log: StepLog, key: str) -> bool:
    """Whether a recording was refused or has all of its clips, each of which says how many they are."""
    first = f"{key}/0"
    if log.done(key) or not log.done(first):
        return log.done(key)
    return all(log.done(f"{key}/{number}") for number in range(log.get(first)["of"]))


def _decoded(file: Path) -> np.ndarray | str:
    """The sound, or why there is none."""
    if not file.is_file():
        return "the recording's file is gone"
    try:
        with file.open("rb") as opened:
            waveform = decode_sound(opened, file.name, RATE)
    except ValueError as error:
        return str(error)
    if len(waveform) < SHORTEST * RATE:
        return f"{file.name}: {len(waveform) / RATE:.3f} s long, shorter than {SHORTEST} s"
    return waveform


def _write(waveform: np.ndarray, record: Mapping[str, Any], about: Mapping[str, Any], out: Path, log: StepLog) -> None:
    import soundfile

    pieces = cut(waveform, round(SECONDS * RATE), math.ceil(SHORTEST * RATE))
    for number, piece in enumerate(pieces):
        key = f"{record['key']}/{number}"
        if log.done(key):
            continue
        file = f"audio/{clip_name(record, number)}"
        with written_whole(out / file) as temporary:
            soundfile.write(temporary, np.clip(piece, -1, 1), RATE, subtype="PCM_16", format="WAV")
        start = number * SECONDS
        place = {"of": len(pieces), "start": start, "sounding": round(min(SECONDS, len(waveform) / RATE - start), 3)}
        log.add(key, {"outcome": "kept", "file": file, **place, **about})
