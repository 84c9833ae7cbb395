"""The data sets as a table and as a page, for `confu data list`."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from confu.checks import check_known
from confu_paper.datasets.registry import DataSetInfo, data_sets, found

NOT_PUBLISHED = "not published"


def folder_of(info: DataSetInfo, data: Path | str) -> Path:
    """Where a data set lies by default."""
    return Path(data) / (info.folder or info.name)


def data_sets_table(data: Path | str = "data", checksums: bool = False) -> Table:
    """Every data set: what it is, where it comes from, its licence and size, and whether it is there.

    Args:
        data: the folder that holds each data set's folder.
        checksums: compute those that are published; minutes for a large download.
    """
    table = Table("name", show_lines=True)
    for title in ("what it is and where from", "licence and size", "is it there"):
        table.add_column(title, overflow="fold")  # addresses are not cut
    for info in data_sets():
        here = found(info, folder_of(info, data), checksums, progress=True)
        size = f"size: {info.size or NOT_PUBLISHED}"
        table.add_row(
            info.name,
            f"{info.what}\nfrom: {info.get}",
            f"{info.licence}\n{size}" if info.licence else f"licence: {NOT_PUBLISHED}\n{size}",
            Text("\n".join([here.state, *here.what])),
        )
    return table


def about_data_set(name: str, data: Path | str = "data", checksums: bool = True) -> str:
    """One data set on a page: all that is known of it, and all that was found.

    Args:
        name: one of the data sets' names.
        data: the folder that holds each data set's folder.
        checksums: as for `found`.

    Raises:
        ValueError: an unknown name.
    """
    by_name = {info.name: info for info in data_sets()}
    check_known("data set", name, by_name)
    info = by_name[name]
    here = found(info, folder_of(info, data), checksums, progress=True)
    sums = [f"{file} {algorithm} {digits}" for file, (algorithm, digits) in info.checksums.items()]
    facts = {
        "what": info.what,
        "get": info.get,
        "unpack": info.unpack,
        "licence": info.licence or NOT_PUBLISHED,
        "size": info.size or NOT_PUBLISHED,
        "checksums": ", ".join(sums) or NOT_PUBLISHED,
        "folder": str(folder_of(info, data)) if info.files or info.rows else "",
        "files": ", ".join(info.files),
        "state": here.state,
    }
    lines = [info.title] + [f"  {key:<10} {fact}" for key, fact in facts.items() if fact]
    lines += [f"             {line}" for line in here.what]
    return "\n".join([*lines, *(f"  {'layout':<10} {line}" for line in info.layout)])
