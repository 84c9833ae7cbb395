"""What a page is made of: plain data, which `confu.evaluation.html` renders."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """Paragraphs under a heading; a blank line parts them."""

    heading: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        heading: of the section.
        columns: the names of the columns.
        rows: one string per column.
        caption: what the numbers are, with units, and on what they are measured.
        emphasised: indices of the rows that matter most.
        folded: what the reader clicks to see it, e.g. "All 180 pairs"; shown at once if empty.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    emphasised: Sequence[int] = ()
    folded: str = ""

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {i} of the table {self.heading!r} must have {len(self.columns)} cells; got {len(row)}"
                )
        if wrong := [i for i in self.emphasised if not 0 <= i < len(self.rows)]:
            raise ValueError(f"emphasised rows of {self.heading!r} must lie in 0..{len(self.rows) - 1}; got {wrong[0]}")


@dataclass(frozen=True)
class Figure:
    """An `<svg>` element, e.g. from `plots.to_svg`.

    Attributes:
        heading: of the section.
        svg: the element; it may load nothing and run nothing.
        alt: what the figure shows, for those who do not see it.
        caption: what the axes are and what to notice.
    """

    heading: str
    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class PlanText:
    """Preformatted text, e.g. a printed plan; behind a click if `folded` says what is there."""

    heading: str
    text: str
    caption: str = ""
    folded: str = ""


@dataclass(frozen=True)
class Image:
    """A PNG file's bytes, and what it shows for those who do not see it."""

    png: bytes
    alt: str


@dataclass(frozen=True)
class Audio:
    """A WAV file's bytes, and what it sounds like for those who do not hear it."""

    wav: bytes
    alt: str


@dataclass(frozen=True)
class Exhibit:
    """One thing that is shown, in any of the ways that it has: pictures, sounds, text.

    Attributes:
        label: what part it plays, e.g. "asked with: image".
        images: side by side.
        sounds: each with its own control.
        text: words, or what there is to say about the thing.
    """

    label: str
    images: Sequence[Image] = ()
    sounds: Sequence[Audio] = ()
    text: str = ""


@dataclass(frozen=True)
class Prediction:
    """What one query answered, and whether that is right."""

    query: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Card:
    """One example: its images, a line of text, what each query answered, and further things to see or hear."""

    title: str
    images: Sequence[Image] = ()
    text: str = ""
    predictions: Sequence[Prediction] = ()
    exhibits: Sequence[Exhibit] = ()


@dataclass(frozen=True)
class Examples:
    """Cards side by side."""

    heading: str
    cards: Sequence[Card]
    caption: str = ""


@dataclass(frozen=True)
class Command:
    """A command to try next, to be copied."""

    heading: str
    command: str
    text: str = ""


Part = Text | Table | Figure | PlanText | Examples | Command


@dataclass(frozen=True)
class Group:
    """Several parts under one heading, which alone stands in the list of sections.

    Attributes:
        heading: of the whole.
        parts: each with a smaller heading; without any if it is empty.
        text: paragraphs before the parts.
    """

    heading: str
    parts: Sequence[Part]
    text: str = ""


Section = Part | Group
