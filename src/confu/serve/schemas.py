"""The answers of the server, as JSON."""

from typing import Any

from pydantic import BaseModel

Point = tuple[float, float]


class HitOut(BaseModel):
    """An item that was found."""

    id: str
    score: float
    metadata: dict[str, Any]
    media: dict[str, str]
    """modality -> the address of its file on this server, or the text itself"""
    point: Point | None = None
    equal: int = 1
    """number of items with this content, if the search folds them into one hit"""


class SearchOut(BaseModel):
    """What a search found."""

    query: str
    target: str
    hits: list[HitOut]
    singles: dict[str, list[HitOut]]
    """modality -> what it would have found alone"""
    mean: list[HitOut]
    """what the mean of the single embeddings would have found"""
    point: Point | None
    """where the query lies in the map of the target"""
    took_ms: float
    cut: list[str] = []
    """modalities whose text is longer than the model reads, so that its end was ignored"""


class EmbedOut(BaseModel):
    """The unit vector of what was sent."""

    subset: str
    dim: int
    vector: list[float]
    cut: list[str] = []
    """as of a search"""


class LabelOut(BaseModel):
    """A label and how well it fits: the cosine, and its share among the labels where the temperature is known."""

    label: str
    score: float
    probability: float | None


class ClassifyOut(BaseModel):
    """The labels, the most fitting first."""

    query: str
    labels: list[LabelOut]
    cut: list[str] = []
    """as of a search"""


class InputOut(BaseModel):
    """What a modality is sent as."""

    kind: str
    shape: list[int | None] | None
    dim: int | None


class AboutOut(BaseModel):
    """What this server searches."""

    name: str
    modalities: dict[str, str]
    subsets: list[str]
    """what the model embeds"""
    stored: list[str]
    """what may be a target"""
    items: int
    columns: dict[str, str]
    labels: list[str] | None
    limits: dict[str, float]
    read_only: bool
    inputs: dict[str, InputOut]


class ItemOut(BaseModel):
    """An item of the index."""

    id: str
    metadata: dict[str, Any]
    media: dict[str, str]
    subsets: list[str]


class MapOut(BaseModel):
    """Items in the plane in which they vary most: id, x, y, label."""

    subset: str
    method: str
    shares: tuple[float, float]
    items: list[tuple[str, float, float, str | None]]


class StateOut(BaseModel):
    """Whether the server is well."""

    status: str


class ErrorIn(BaseModel):
    """What is wrong with a request."""

    code: str
    message: str
    field: str | None


class ErrorOut(BaseModel):
    """An answer that is an error."""

    error: ErrorIn
