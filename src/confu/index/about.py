"""What an index is of: the model that made its vectors, its subsets, and its source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confu.data.media import KINDS
from confu.plan import Subset


@dataclass(frozen=True)
class About:
    """The model and the data behind an index.

    Attributes:
        model: full path of the run or model folder, or its name on the hub.
        fingerprint: of the model's weights, plan and readers; queries of a model with another one are refused.
        dim: the size of a vector.
        subsets: the subsets that are stored.
        kinds: modality -> image, audio, video, text, vector, sequence or number.
        source: what the vectors were made of, JSON-able; empty if they were added by hand.

    Raises:
        ValueError: if there is no subset, one is repeated, dim is below 1, or a kind is unknown or missing.

    >>> About("runs/birds", "3f...", 128, (Subset("image"),), {"image": "image"}).to_dict()["subsets"]
    ['image']
    """

    model: str
    fingerprint: str
    dim: int
    subsets: tuple[Subset, ...]
    kinds: dict[str, str]
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        subsets = tuple(map(Subset.parse, self.subsets))
        object.__setattr__(self, "subsets", subsets)
        if not subsets or len(set(subsets)) != len(subsets):
            raise ValueError(f"subsets must name at least one subset, each once; got {list(map(str, subsets))}")
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"dim must be a whole number of at least 1; got {self.dim!r}")
        if wrong := {name: kind for name, kind in self.kinds.items() if kind not in KINDS}:
            raise ValueError(f"kinds must give each modality one of {', '.join(KINDS)}; got {wrong}")
        if missing := sorted({name for subset in subsets for name in subset} - set(self.kinds)):
            raise ValueError(f"kinds must name every modality of the subsets; it lacks {', '.join(missing)}")

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `index.json`."""
        return {**vars(self), "subsets": [str(subset) for subset in self.subsets], "kinds": dict(self.kinds)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "About":
        """The reverse of `to_dict`; a ValueError names what is missing or of another type."""
        types = {"model": str, "fingerprint": str, "dim": int, "subsets": list, "kinds": dict, "source": dict}
        for name, kind in types.items():
            if not isinstance(content.get(name), kind):
                raise ValueError(f"{name!r} must be of type {kind.__name__}; got {content.get(name)!r}")
        values = {name: content[name] for name in types}
        return cls(**{**values, "subsets": tuple(map(Subset.parse, content["subsets"]))})
