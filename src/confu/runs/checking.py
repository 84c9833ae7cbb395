"""Open every file of a manifest and list what is broken, before anybody waits for a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.data.coverage import Coverage, coverage
from confu.data.manifest import ColumnRole, Manifest
from confu.data.media import FILE_KINDS
from confu.data.readers import build_reader
from confu.runs.columns import SCALED, proposed_reader, read_sources, readable_sources
from confu.runs.guess import guess_modalities, read_with_roles
from confu.runs.prepare import open_manifest, prepare
from confu.runs.problems import Problems
from confu.runs.rows import assign_rows
from confu.runs.run_file import RunFile
from confu.runs.run_yaml import read_run_file


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        manifest: the table.
        problems: what is wrong with it; `problems.to_rich()` shows it.
        coverage: which rows have what.
        listed: the file with every problem; None if there are none.
        notes: what to know of rows that can be used: how they are split, copies, features that are constant.
    """

    manifest: Manifest
    problems: Problems
    coverage: Coverage
    listed: Path | None
    notes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether every row can be used."""
        return not self.problems.broken and not self.problems.columns


def check(
    address: str | Path,
    out: str | Path = ".",
    *,
    workers: int | None = None,
    allow_outside: bool = False,
    progress: bool = True,
) -> Checked:
    """Open everything that a run file or a manifest names, as training would.

    What a run file's data decode to is kept in the cache of the run, so that training decodes nothing again.

    Args:
        address: a run file (`.yaml`), or a manifest; then what its columns hold is guessed, as `init` does.
        out: folder for `problems.csv`, if there are problems.
        workers: threads; by default one a processor.
        allow_outside: follow paths that leave the manifest's folder; a run file says so itself.
        progress: draw a progress bar.

    Raises:
        ValueError: for a manifest that cannot be read, or a run file with mistakes.
    """
    readers, refused = None, []
    if str(address).endswith((".yaml", ".yml")):
        run = read_run_file(address)
        manifest = open_manifest(run)
    else:
        manifest, roles = read_with_roles(address, allow_outside=allow_outside)
        run = _guessed_run(manifest, roles, allow_outside)
        training = assign_rows(run, manifest)[0].of("train")
        readers = {
            name: build_reader({**proposed_reader(modality.kind, sources), **_scaled(modality.kind)})
            for name, modality in run.modalities.items()
            if (sources := readable_sources(manifest, modality.column, modality.kind, training))
        }
        # Where no cell can be followed, none is opened that would say so.
        for modality in (one for name, one in run.modalities.items() if name not in readers):
            refused += read_sources(manifest, modality.column, modality.kind, range(len(manifest)))[1]
    data = run.data.model_copy(update={"workers": workers or run.data.workers})
    prepared = prepare(run.model_copy(update={"data": data}), manifest, readers, progress)
    problems = prepared.problems.with_broken(refused)
    listed = problems.save(Path(out).expanduser()) if problems.all else None
    return Checked(manifest, problems, coverage(prepared.rows.present), listed, tuple(prepared.notes))


def _scaled(kind: str) -> dict[str, Any]:
    """Standardised, so that constant features are noted; files are not opened again for it."""
    return {} if kind in FILE_KINDS else SCALED.get(kind, {})


def _guessed_run(manifest: Manifest, roles: Mapping[str, ColumnRole], allow_outside: bool) -> RunFile:
    """A run that reads every column that seems to hold a modality, and keeps nothing."""
    modalities = {
        name: {"column": guess.column, "kind": guess.kind, "encoder": "none"}
        for name, guess in guess_modalities(manifest)[0].items()
    }
    if not modalities:
        raise ValueError(f"{manifest.address}: no column seems to hold a modality; `confu init` says why")
    columns = {role: one.column for role, one in roles.items()}
    data = {"allow_outside": allow_outside, "cache": False, "roles": columns, "missing": "pandas"}
    return RunFile.model_validate({"manifest": manifest.address, "out": ".", "modalities": modalities, "data": data})
