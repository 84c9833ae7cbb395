"""Run files on disk: read with all their mistakes at once, changed by `--set`, written as they were resolved."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confu.files import written_whole
from confu.runs.run_files.mistakes import mistakes
from confu.runs.run_files.rules import contradictions
from confu.runs.run_files.run_file import RunFile
from confu.runs.run_files.yaml_text import Keys, parse_yaml, set_value, to_yaml

_HEADER = "# The settings of this run, all of them, as it was trained. `confu train` of this file goes on with it.\n"


def read_run_file(path: str | Path, sets: Sequence[str] = ()) -> RunFile:
    """Read a run file; paths in it are relative to its folder.

    Args:
        path: a YAML file.
        sets: changes such as `"train.lr=1e-3"`, `"modalities.image.encoder=minilm"`, `"data.shares=[0.7, 0.2, 0.1]"`.

    Raises:
        ValueError: listing every mistake with the path of its key, its line, and the nearest key to an unknown one.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such run file; `confu init MANIFEST` writes one")
    try:
        data, lines = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a run file is UTF-8 text; byte {error.start} is not") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected settings by name (manifest, out, modalities, ...); got {data!r}")
    places: dict[Keys, str] = {keys: f"line {line}, " for keys, line in lines.items() if keys}
    run, wrong = _validated(data, sets, places)
    if run is None:
        count = f"{len(wrong)} mistakes" if len(wrong) > 1 else "a mistake"
        raise ValueError(f"{path} has {count}:\n" + "\n".join(f"  {one}" for one in wrong))
    return _map_paths(run, lambda text: os.path.normpath(path.parent.absolute() / text))


def write_run_file(run: RunFile, path: str | Path) -> None:
    """Write a run with all its settings; its paths become relative to the file, so that folders can be moved as one."""
    path = Path(path).absolute()
    data = _map_paths(run, lambda text: os.path.relpath(text, path.parent)).model_dump()
    with written_whole(path) as temporary:
        temporary.write_text(_HEADER + to_yaml(data), encoding="utf-8")


def with_sets(run: RunFile, sets: Sequence[str]) -> RunFile:
    """A run with some settings changed, as `read_run_file` does it.

    Raises:
        ValueError: listing every mistake.
    """
    changed, wrong = _validated(run.model_dump(), sets, {})
    if changed is None:
        raise ValueError("\n".join(wrong))
    return changed


def _validated(data: dict[str, Any], sets: Sequence[str], places: dict[Keys, str]) -> tuple[RunFile | None, list[str]]:
    """The run, or everything that is wrong with it, in the order of the file."""
    wrong = _apply(data, sets, places)
    found = mistakes(data)
    run = None if found else RunFile.model_validate(data, strict=True)
    if run is not None:
        found = [(_keys(where), what) for where, what in contradictions(run)]
    order = {keys: number for number, keys in enumerate(places)}
    found.sort(key=lambda one: order.get(_standing(one[0], places), -1))
    wrong += [f"{places.get(_standing(keys, places), '')}{'.'.join(map(str, keys))}: {what}" for keys, what in found]
    return (None if wrong else run), wrong


def _apply(data: dict[str, Any], sets: Sequence[str], places: dict[Keys, str]) -> list[str]:
    wrong = []
    for text in sets:
        name, equals, value = text.partition("=")
        keys = _keys(name.strip())
        if not equals or not all(keys):
            wrong.append(f"--set {text!r}: write NAME=VALUE, e.g. train.lr=1e-3")
            continue
        try:
            set_value(data, keys, parse_yaml(value, f"--set {name.strip()}")[0])
        except ValueError as error:
            wrong.append(f"--set {text!r}: {error}" if not str(error).startswith("--set") else str(error))
        for length in range(1, len(keys)):
            places.setdefault(keys[:length], "--set ")  # where the file has no such section
        places[keys] = "--set "
    return wrong


def _standing(keys: Keys, places: Mapping[Keys, str]) -> Keys:
    """The key, or the nearest one around it that stands somewhere."""
    while keys and keys not in places:
        keys = keys[:-1]
    return keys


def _keys(name: str) -> Keys:
    return tuple(name.split("."))


def _map_paths(run: RunFile, change: Callable[[str], str]) -> RunFile:
    """The run with every local path changed."""
    manifest = run.manifest if "://" in run.manifest else change(run.manifest)
    data = (
        run.data.model_copy(update={"cache": change(run.data.cache)}) if isinstance(run.data.cache, str) else run.data
    )
    modalities = {
        name: modality.model_copy(update={"encoder": change(modality.encoder)})
        if isinstance(modality.encoder, str) and modality.encoder.startswith((".", "/")) else modality
        for name, modality in run.modalities.items()
    }  # fmt: skip
    return run.model_copy(update={"manifest": manifest, "out": change(run.out), "data": data, "modalities": modalities})
