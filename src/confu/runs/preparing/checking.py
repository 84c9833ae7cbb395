"""Open every file of a manifest and list what is broken, before anybody waits for a training."""

from dataclasses import dataclass
from pathlib import Path

from confu.data.coverage import Coverage, coverage
from confu.data.manifest import Manifest, guess_columns, read_manifest
from confu.data.readers import build_reader
from confu.runs.preparing.parts import build_parts
from confu.runs.preparing.table import assign_rows, open_manifest, readable_sources
from confu.runs.preparing.trouble import Trouble, find_trouble
from confu.runs.proposing.peek import proposed_reader
from confu.runs.proposing.propose import left_out, modality_name
from confu.runs.run_files.reading import read_run_file
from confu.runs.run_files.run_file import ModalitySettings, RunFile


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        manifest: the table.
        trouble: what is wrong with it; `trouble.to_rich()` shows it.
        coverage: which rows have what.
        listed: the file with every problem; None if there are none.
    """

    manifest: Manifest
    trouble: Trouble
    coverage: Coverage
    listed: Path | None

    @property
    def sound(self) -> bool:
        """Whether every row can be used."""
        return not self.trouble.broken and not self.trouble.columns


def check(
    address: str | Path,
    out: str | Path = ".",
    *,
    workers: int | None = None,
    allow_outside: bool = False,
    progress: bool = True,
) -> Checked:
    """Open everything that a run file or a manifest names, as training would.

    Args:
        address: a run file (`.yaml`), or a manifest; then what its columns hold is guessed, as `init` does.
        out: folder for `problems.csv`, if there are problems.
        workers: threads; by default one a processor.
        allow_outside: follow paths that leave the manifest's folder; a run file says so itself.
        progress: draw a progress bar.

    Raises:
        ValueError: for a manifest that cannot be read, or a run file with mistakes.
    """
    if str(address).endswith((".yaml", ".yml")):
        run = read_run_file(address)
        manifest = open_manifest(run)
    else:
        manifest = read_manifest(address, allow_outside=allow_outside)
        run = _guessed(manifest, allow_outside)
    run = run.model_copy(update={"data": run.data.model_copy(update={"workers": workers or run.data.workers})})
    rows, _ = assign_rows(run, manifest)
    trouble = find_trouble(run, manifest, rows)
    if not trouble.columns:
        if str(address).endswith((".yaml", ".yml")):
            readers, _ = build_parts(run, manifest, rows.of("train"))
        else:
            readers = {
                name: build_reader(proposed_reader(modality.kind, readable_sources(
                    manifest, modality.column, modality.kind, rows.of("train"))))
                for name, modality in run.modalities.items()
            }  # fmt: skip
        trouble = find_trouble(run, manifest, rows, readers, progress)
    listed = trouble.save(Path(out)) if trouble.all else None
    return Checked(manifest, trouble, coverage(rows.present), listed)


def _guessed(manifest: Manifest, allow_outside: bool) -> RunFile:
    modalities: dict[str, ModalitySettings] = {}
    for column, guess in guess_columns(manifest).items():
        if left_out(guess) is None:
            settings = ModalitySettings.model_validate({"column": column, "kind": guess.kind, "encoder": "none"})
            modalities[modality_name(column, list(modalities))] = settings
    if not modalities:
        raise ValueError(f"{manifest.address}: no column seems to hold a modality; `confu init` says why")
    data = {"allow_outside": allow_outside}
    return RunFile.model_validate({"manifest": manifest.address, "out": ".", "modalities": modalities, "data": data})
