"""Addresses: where a manifest lies, where its relative paths start, and which paths may be followed from there."""

import os
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def full_address(address: str | Path) -> str:
    """A local path made absolute, without `file://` and `~`; any other address as it is.

    >>> full_address("memory://data/clips.csv")
    'memory://data/clips.csv'
    """
    text = str(address)
    local = os.path.expanduser(text.removeprefix("file://").removeprefix("local://"))  # noqa: PTH111
    return os.path.abspath(local) if is_local(local) else text  # noqa: PTH100 (Path.resolve would follow links)


def is_local(address: str) -> bool:
    """Whether a full address is a path of this machine; `::` in one is part of a name."""
    return "://" not in address


def file_system(address: str) -> tuple[Any, str]:
    """The file system (of fsspec) of an address, and the path there.

    Raises:
        ValueError: a protocol that fsspec does not know, or one whose package is not installed.
    """
    import fsspec

    try:
        return (fsspec.filesystem("file"), address) if is_local(address) else fsspec.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise ValueError(f"{address}: cannot be reached ({error})") from error


def parent_of(address: str) -> str:
    """The folder of a file's full address.

    >>> parent_of("s3://bucket/data/clips.csv"), parent_of("zip://data/clips.csv::s3://bucket/all.zip")
    ('s3://bucket/data', 'zip://data::s3://bucket/all.zip')
    """
    protocol, path, rest = _parts(address)
    return f"{protocol}{posixpath.dirname(path)}{rest}"


def joined(base: str, path: str) -> str:
    """The full address of a path that is relative to a folder.

    >>> joined("zip://data::s3://bucket/all.zip", "photos/1.png")
    'zip://data/photos/1.png::s3://bucket/all.zip'
    """
    protocol, folder, rest = _parts(base)
    return f"{protocol}{posixpath.join(folder, path)}{rest}"


def _parts(address: str) -> tuple[str, str, str]:
    if is_local(address):
        return "", address, ""
    head, chain, rest = address.partition("::")
    protocol, mark, path = head.rpartition("://")
    return protocol + mark, path, chain + rest


class FileResolver:
    """Turns the paths of a manifest into full addresses, and refuses those that leave its folder.

    A manifest may come from a stranger: a path in it must not make this machine read another file.

    Args:
        base: the full address of the folder.
        allow_outside: follow every path.

    >>> FileResolver("s3://bucket/data")("photos/1.png")
    's3://bucket/data/photos/1.png'
    """

    def __init__(self, base: str, allow_outside: bool = False) -> None:
        self.base = base
        self.allow_outside = allow_outside
        self._real_base = os.path.realpath(base) if is_local(base) else None
        self._real_folders: dict[str, str] = {}  # thousands of files share a folder: its links are resolved once

    def __call__(self, path: str) -> str:
        """The full address of a path.

        Raises:
            ValueError: the path leaves the folder, or can be no path.
        """
        if "\0" in path:
            raise ValueError("no path: it holds a zero byte")
        if os.sep == "/" and "\\" in path and "://" not in path:
            path = self._from_windows(path)
        if "://" in path or ("::" in path and self._real_base is None):  # fsspec would open what follows ::
            return self._outside(path, "it names a file system of its own")
        if self._real_base is not None and path.startswith("~/"):
            path = os.path.expanduser(path)  # noqa: PTH111
        if posixpath.isabs(path) or (self._real_base is not None and os.path.isabs(path)):  # noqa: PTH117
            normal = os.path.normpath(path)  # what is checked is what is opened: "link/.." would be another folder
            inside = not self.allow_outside and self._holds(normal)
            return normal if inside else self._outside(path, "it is absolute")
        normal = posixpath.normpath(path)
        # A web server decodes %2e%2e itself.
        if ".." in normal.split("/") or (self._real_base is None and ".." in unquote(normal).split("/")):
            return self._outside(joined(self.base, normal), "it goes above it with '..'")
        address = joined(self.base, normal)
        if self._real_base is not None and not self.allow_outside and not self._holds(address):
            return self._outside(address, f"it is a link to {self._real(address)}")
        return address

    def _from_windows(self, path: str) -> str:
        """A path with the separators of this system, unless a file has such a name."""
        if _DRIVE.match(path):
            raise ValueError("a path of Windows, with a drive; write paths relative to the manifest's folder")
        is_name = self._real_base is not None and os.path.lexists(os.path.join(self.base, path))  # noqa: PTH118
        return path if is_name else path.replace("\\", "/")

    def _holds(self, path: str) -> bool:
        """Whether an absolute path of this machine lies in the folder, links followed."""
        base = self._real_base
        return base is not None and os.path.commonpath([self._real(path), base]) == base

    def _outside(self, address: str, why: str) -> str:
        if not self.allow_outside:
            raise ValueError(
                f"the path leaves the manifest's folder {self.base}: {why}; write paths relative to that folder, or "
                "give allow_outside=True (--allow-outside) if you trust the manifest"
            )
        return address

    def _real(self, path: str) -> str:
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        return os.path.join(self._real_folders[folder], name)  # noqa: PTH118
