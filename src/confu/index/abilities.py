"""What a store may do beyond the protocol of all stores."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from confu.index.about import About
from confu.index.backend import Change
from confu.index.items import Items


@runtime_checkable
class AddsParts(Protocol):
    """A store that takes items part after part in one write."""

    def add_all(self, parts: Iterable[Items], replace: bool = False, about: About | None = None) -> Change:
        """Store all of them or none, and with them in the same moment what the index says of itself."""
        ...


@runtime_checkable
class Refreshes(Protocol):
    """A store that keeps a view of its files, and has to be told to look again."""

    def refresh(self) -> bool:
        """See what another process has written since; whether there was something."""
        ...


@runtime_checkable
class Compacts(Protocol):
    """A store that can put itself in order."""

    def compact(self) -> None:
        """Write what is there more tightly; what a search finds stays the same."""
        ...
