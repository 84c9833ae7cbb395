"""A report as one HTML file that needs no network: text, tables, figures, plans, examples and commands."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from confu.files import written_whole


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
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    emphasised: Sequence[int] = ()

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
    """Preformatted text, e.g. a printed plan."""

    heading: str
    text: str
    caption: str = ""


@dataclass(frozen=True)
class Image:
    """A PNG file's bytes, and what it shows for those who do not see it."""

    png: bytes
    alt: str


@dataclass(frozen=True)
class Prediction:
    """What one query answered, and whether that is right."""

    query: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Card:
    """One example: its images, a line of text, and what each query answered."""

    title: str
    images: Sequence[Image] = ()
    text: str = ""
    predictions: Sequence[Prediction] = ()


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


Section = Text | Table | Figure | PlanText | Examples | Command

# What would run, and what would be fetched: anything that points outside the page and is not a PNG in the text.
_ACTIVE = re.compile(r"<\s*(?:script|foreignObject)|\son\w+\s*=|@import|url\(\s*['\"]?(?!#)", re.IGNORECASE)
_LINK = re.compile(r"""\bhref\s*=\s*["'](?!#|data:image/png;)[^"']*""", re.IGNORECASE)
_PNG = b"\x89PNG\r\n\x1a\n"


def _safe_svg(svg: str, prefix: str, alt: str) -> Markup:
    """Check that an SVG is passive, make its ids unique in the page, and give it its description."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    if not svg.lstrip().startswith("<svg"):
        raise ValueError(f"svg must be an <svg> element; got {svg[:40]!r}")
    if found := _ACTIVE.search(svg) or _LINK.search(svg):
        raise ValueError(f"svg may load and run nothing, so that the page works offline; it holds {found.group(0)!r}")
    if not alt:
        raise ValueError("alt must say what the figure shows; got an empty text")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    described = Markup('<svg role="img" aria-label="{}" ').format(alt)
    return described + Markup(svg.lstrip()[len("<svg") :].lstrip())


@singledispatch
def _prepare(section: object, prefix: str) -> dict[str, object]:
    """What the template needs of a section."""
    return {"kind": type(section).__name__, "section": section}


@_prepare.register
def _(section: Text, prefix: str) -> dict[str, object]:
    return {"kind": "Text", "section": section, "paragraphs": re.split(r"\n\s*\n", section.text.strip())}


@_prepare.register
def _(section: Table, prefix: str) -> dict[str, object]:
    columns = zip(*section.rows) if section.rows else ((),) * len(section.columns)
    # A column without any digit, or with long sentences, is read as words and set to the left.
    words = [all(_is_words(cell) for cell in column if cell) for column in columns]
    return {"kind": "Table", "section": section, "words": words}


def _is_words(cell: str) -> bool:
    return len(cell) > 24 or not re.search(r"\d", cell)


@_prepare.register
def _(section: Figure, prefix: str) -> dict[str, object]:
    return {"kind": "Figure", "section": replace(section, svg=_safe_svg(section.svg, prefix, section.alt))}


def _data_url(image: Image) -> str:
    if not image.png.startswith(_PNG):
        raise ValueError(f"the image {image.alt!r} must be PNG bytes; got {image.png[:8]!r}")
    if not image.alt:
        raise ValueError("alt must say what the image shows; got an empty text")
    return "data:image/png;base64," + base64.b64encode(image.png).decode()


def render_html(
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
        versions: shown at the foot, see `confu.evaluation.report.versions`.

    Raises:
        ValueError: if an SVG is not passive, an image is not PNG, or a figure or image has no alternative text.

    Example:
        >>> page = render_html("Digits", [Text("What", "Two & three.")])
        >>> "<h1>Digits</h1>" in page, "Two &amp; three." in page
        (True, True)
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    prepared = [{"id": f"section-{i}", **_prepare(section, f"s{i}")} for i, section in enumerate(sections, start=1)]
    return environment.get_template("report.html").render(
        title=title, summary=summary, sections=prepared, versions=dict(versions or {}), data_url=_data_url
    )


def write_html(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    summary: str = "",
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all; the arguments are those of `render_html`.

    Returns:
        the path.
    """
    text = render_html(title, sections, summary, versions)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
