"""Whether an index may take what is to be put into it, and whether it is still what its sources say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confu.checks import check_known
from confu.data.manifest import Manifest, read_manifest
from confu.index import About, Index
from confu.index.backends import BACKENDS
from confu.index.catalog import Catalog, read_catalog
from confu.index.verifying import verify
from confu.inference.embedder import load
from confu.plan import Subset
from confu.runs.embedding.embed_source import manifest_digest


def verify_index(folder: Path | str, **options: Any) -> list[str]:
    """Read all of an index again, also of one that is too damaged to be opened, and say what is wrong."""
    try:
        with Index.open(folder, **options) as index:
            return index.verify()
    except ValueError as error:
        about = read_catalog(Path(folder)).about
        return verify(Path(folder), about) or [str(error)]  # of another store there are no files to read


def check_fresh(folder: Path | str, allow_custom: bool = False) -> list[str]:
    """What has changed since an index was made, of its model and its manifests; nothing if it is up to date.

    Manifests are read again and compared cell by cell. The files that they name are not opened: a picture that was
    replaced under its old name is not seen.

    Args:
        folder: of the index.
        allow_custom: build encoders by the function that the model's files name.
    """
    about = read_catalog(Path(folder)).about
    stale: list[str] = []
    if not about.source:
        return stale  # made by hand: nothing is said of where it came from
    try:
        if load(about.model, allow_custom=allow_custom).parts.fingerprint() != about.fingerprint:
            stale.append(f"the model {about.model} was trained further or replaced; index again")
    except ValueError as error:
        stale.append(f"the model cannot be had ({error})")
    for one in about.source.get("manifests", []):
        try:
            table = read_manifest(one["manifest"], one["allow_outside"])
            digest = manifest_digest(table, {name: name for name in one["cells"]})
        except ValueError as error:
            stale.append(f"the manifest {one['manifest']} is not as it was ({error})")
            continue
        if digest != one["digest"]:
            stale.append(
                f"the manifest {one['manifest']} has changed ({one['rows']} rows then, {len(table)} now); index it "
                "again with --replace"
            )
    return stale


def stored_subsets(folder: Path, there: Catalog | None, found: tuple[Subset, ...], given: bool) -> tuple[Subset, ...]:
    """The subsets to embed: of an index that is there, those that it stores."""
    if there is None:
        return found
    stored = set(there.about.subsets)
    if given and (more := [str(subset) for subset in found if subset not in stored]):
        raise ValueError(
            f"{folder} stores {', '.join(map(str, there.about.subsets))}; it cannot take {', '.join(more)} now. Make a "
            "new index"
        )
    shown = tuple(subset for subset in found if subset in stored)
    if not shown:
        raise ValueError(
            f"{folder} stores {', '.join(map(str, stored))}, and the manifest has columns for none of these"
        )
    return shown


def check_same(folder: Path, run: Path | str, about: About, there: Catalog | None, backend: str | None) -> None:
    """An index that is there must be of this model, and of this backend if one was asked for."""
    if backend is not None:
        check_known("backend", backend, BACKENDS)
    if there is None:
        return
    if there.about.fingerprint != about.fingerprint:
        raise ValueError(
            f"{folder} is an index of another model ({there.about.model}); what {run} embeds cannot be compared with "
            "it. Index into another folder"
        )
    if backend is not None and backend != there.kind:
        raise ValueError(f"{folder} is kept in the backend {there.kind!r}; for {backend!r} make a new index")


def check_new(folder: Path, table: Manifest, options: Mapping[str, Any]) -> None:
    """No row may be in the index already; said before anything is embedded."""
    with Index.open(folder, **options) as index:
        new = set(table.ids)
        known = [id for id in index.ids() if id in new]
    if known:
        raise ValueError(
            f"{len(known)} of the {len(table)} rows of {table.address} are in {folder} already, {known[0]!r} the "
            "first; replace them with replace=True (--replace), or give the new rows other ids"
        )
