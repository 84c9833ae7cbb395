"""The small protocol that every store of vectors follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.index.conditions import Condition
from confu.index.items import Items
from confu.plan import Subset


@dataclass(frozen=True)
class Found:
    """What a search of one query found, best first.

    Attributes:
        ids: at most k; fewer where fewer items fit.
        scores: one an id, the cosine with the query.
    """

    ids: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Change:
    """What a write did.

    Attributes:
        added: items that are new.
        replaced: items that were there before.
    """

    added: int
    replaced: int


@runtime_checkable
class Backend(Protocol):
    """Where the vectors are kept and searched.

    What a call writes is there whole when it returns, and not at all if it raises or the process is killed. Several
    processes may search while one writes: a search sees the items of before a write, or those of after it.
    """

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata that conditions may name."""
        ...

    def __len__(self) -> int: ...

    def add(self, items: Items, replace: bool = False) -> Change:
        """Store items. An id that is there is an error naming it, or with `replace` takes the new item's place."""
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items and return how many; ids that are not there are left out of the count."""
        ...

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Condition] = ()
    ) -> list[Found]:
        """The k items nearest to each query by their vector of `target`, among those that have it and fit `where`."""
        ...

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order.

        Raises:
            KeyError: for an id that is not there.
        """
        ...

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        ...

    def verify(self) -> list[str]:
        """Read everything and say what is wrong with it; nothing if all is well."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
