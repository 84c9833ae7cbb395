"""A report as one HTML file that needs no network: text, tables, figures, plans, examples, sounds and commands."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import singledispatch
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from confu.evaluation.html_parts import (
    Audio,
    Card,
    Command,
    Examples,
    Exhibit,
    Figure,
    Group,
    Image,
    Part,
    PlanText,
    Prediction,
    Section,
    Table,
    Text,
)
from confu.files import written_whole

__all__ = [
    "Audio",
    "Card",
    "Command",
    "Examples",
    "Exhibit",
    "Figure",
    "Group",
    "Image",
    "Part",
    "PlanText",
    "Prediction",
    "Section",
    "Table",
    "Text",
    "render_html",
    "write_html",
]

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
    return {"kind": type(section).__name__, "section": section, "id": prefix}


@_prepare.register
def _(section: Text, prefix: str) -> dict[str, object]:
    return {"kind": "Text", "section": section, "id": prefix, "paragraphs": _paragraphs(section.text)}


@_prepare.register
def _(section: Table, prefix: str) -> dict[str, object]:
    columns = zip(*section.rows) if section.rows else ((),) * len(section.columns)
    # A column without any digit, or with long sentences, is read as words and set to the left.
    words = [all(_is_words(cell) for cell in column if cell) for column in columns]
    return {"kind": "Table", "section": section, "id": prefix, "words": words}


def _is_words(cell: str) -> bool:
    return len(cell) > 24 or not re.search(r"\d", cell)


@_prepare.register
def _(section: Figure, prefix: str) -> dict[str, object]:
    return {
        "kind": "Figure",
        "section": replace(section, svg=_safe_svg(section.svg, prefix, section.alt)),
        "id": prefix,
    }


@_prepare.register
def _(section: Group, prefix: str) -> dict[str, object]:
    parts = [_prepare(part, f"{prefix}-{i}") for i, part in enumerate(section.parts, start=1)]
    paragraphs = _paragraphs(section.text)
    return {"kind": "Group", "section": section, "id": prefix, "parts": parts, "paragraphs": paragraphs}


def _paragraphs(text: str) -> list[str]:
    return [one for one in re.split(r"\n\s*\n", text.strip()) if one]


def _has_command(prepared: Sequence[Mapping[str, object]]) -> bool:
    """Whether any section has a button that copies: the only thing that needs a script."""
    parts = [part for one in prepared for part in one.get("parts", ())]  # type: ignore[union-attr]
    return any(one["kind"] == "Command" for one in (*prepared, *parts))


def _data_url(image: Image) -> str:
    if not image.png.startswith(_PNG):
        raise ValueError(f"the image {image.alt!r} must be PNG bytes; got {image.png[:8]!r}")
    if not image.alt:
        raise ValueError("alt must say what the image shows; got an empty text")
    return "data:image/png;base64," + base64.b64encode(image.png).decode()


def _sound_url(sound: Audio) -> str:
    if sound.wav[:4] != b"RIFF" or sound.wav[8:12] != b"WAVE":
        raise ValueError(f"the sound {sound.alt!r} must be WAV bytes; got {sound.wav[:12]!r}")
    if not sound.alt:
        raise ValueError("alt must say what the sound is; got an empty text")
    return "data:audio/wav;base64," + base64.b64encode(sound.wav).decode()


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
        ValueError: if an SVG is not passive, an image is not PNG, a sound is not WAV, or one of
            them has no alternative text.

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
    prepared = [_prepare(section, f"section-{i}") for i, section in enumerate(sections, start=1)]
    return environment.get_template("report.html").render(
        title=title, summary=summary, sections=prepared, versions=dict(versions or {}), data_url=_data_url,
        sound_url=_sound_url, scripted=_has_command(prepared),
    )  # fmt: skip


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
