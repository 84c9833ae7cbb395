"""A report as one HTML file that needs no network: text, tables, figures, plans, examples, sounds and commands.

Its sections are plain data; `write_report` renders them with the template `report.html`.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.files import written_whole

# What would run, and what would be fetched: anything that points outside the page and is not a PNG in the text.
_ACTIVE = re.compile(r"<\s*(?:script|foreignObject)|\son\w+\s*=|@import|url\(\s*['\"]?(?!#)", re.IGNORECASE)
_LINK = re.compile(r"""\bhref\s*=\s*["'](?!#|data:image/png;)[^"']*""", re.IGNORECASE)


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
    """An `<svg>` element that loads and runs nothing, e.g. from `plots.to_svg`; `alt` says what it shows."""

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
    """One thing shown in any of its ways; the label says what part it plays, e.g. "query: image"."""

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
    """Several parts with smaller headings (or none) under one, after paragraphs of text."""

    heading: str
    parts: Sequence[Part]
    text: str = ""


Section = Part | Group


def write_report(
    file: str | Path,
    title: str,
    sections: Sequence[Section],
    summary: str = "",
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all; the arguments are those of `render_report`."""
    text = render_report(title, sections, summary, versions)
    with written_whole(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(file)


def render_report(
    title: str,
    sections: Sequence[Section],
    summary: str = "",
    versions: Mapping[str, str] | None = None,
) -> str:
    """The page as text.

    Args:
        title: of the page.
        sections: from top to bottom.
        summary: one or two sentences under the title: what was found.
        versions: shown at the foot, see `confu.evaluation.versions`.

    Raises:
        ValueError: if an SVG is not passive, an image is not PNG, a sound is not WAV, or one of
            them has no alternative text.

    Example:
        >>> page = render_report("Digits", [Text("What", "Two & three.")])
        >>> "<h1>Digits</h1>" in page, "Two &amp; three." in page
        (True, True)
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    items = [_item(section, f"section-{i}") for i, section in enumerate(sections, start=1)]
    flat = [part for item in items for part in (item, *item["parts"])]
    return environment.get_template("report.html").render(
        title=title,
        summary=summary,
        sections=items,
        versions=dict(versions or {}),
        data_url=_data_url,
        scripted=any(part["kind"] == "Command" for part in flat),  # the button that copies
    )


def _item(section: Section, id: str) -> dict[str, Any]:
    """A section with what the template needs beside it."""
    item: dict[str, Any] = {"kind": type(section).__name__, "section": section, "id": id, "parts": []}
    if isinstance(section, Text | Group):
        item["paragraphs"] = [one for one in re.split(r"\n\s*\n", section.text.strip()) if one]
    if isinstance(section, Group):
        item["parts"] = [_item(part, f"{id}-{i}") for i, part in enumerate(section.parts, start=1)]
    if isinstance(section, Table):
        columns = zip(*section.rows) if section.rows else ((),) * len(section.columns)
        # A column without any digit, or with long sentences, is read as words and set to the left.
        item["words"] = [
            all(len(cell) > 24 or not re.search(r"\d", cell) for cell in column if cell) for column in columns
        ]
    if isinstance(section, Figure):
        item["svg"] = _passive_svg(section.svg, id, section.alt)
    return item


def _passive_svg(svg: str, prefix: str, alt: str) -> str:
    """Check that an SVG is passive, make its ids unique in the page, and give it its description."""
    from markupsafe import Markup

    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    if not svg.lstrip().startswith("<svg"):
        raise ValueError(f"svg must be an <svg> element; got {svg[:40]!r}")
    if active := _ACTIVE.search(svg) or _LINK.search(svg):
        raise ValueError(f"svg may load and run nothing, so that the page works offline; it holds {active.group(0)!r}")
    if not alt:
        raise ValueError("alt must say what the figure shows; got an empty text")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    described = Markup('<svg role="img" aria-label="{}" ').format(alt)
    return described + Markup(svg.lstrip()[len("<svg") :].lstrip())


def _data_url(media: Image | Audio) -> str:
    if isinstance(media, Image):
        what, content, kind, good = "image", media.png, "PNG", media.png.startswith(b"\x89PNG\r\n\x1a\n")
    else:
        what, content, kind = "sound", media.wav, "WAV"
        good = content[:4] == b"RIFF" and content[8:12] == b"WAVE"
    if not good:
        raise ValueError(f"the {what} {media.alt!r} must be {kind} bytes; got {content[:12]!r}")
    if not media.alt:
        raise ValueError(f"alt must say what the {what} {'shows' if what == 'image' else 'is'}; got an empty text")
    mime = "image/png" if what == "image" else "audio/wav"
    return f"data:{mime};base64," + base64.b64encode(content).decode()
