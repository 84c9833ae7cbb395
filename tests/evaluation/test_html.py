"""The HTML report: one passive file, whatever is put into it."""

import base64
import io
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from PIL import Image as PillowImage

from confu.evaluation import plots
from confu.evaluation.html import (
    Audio,
    Card,
    Command,
    Examples,
    Exhibit,
    Figure,
    Group,
    Image,
    PlanText,
    Prediction,
    Table,
    Text,
    render_report,
    write_report,
)

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Collects what the tests ask for, and fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.links += [attrs[name] for name in ("href", "src", "xlink:href", "aria-labelledby") if name in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def png():
    buffer = io.BytesIO()
    PillowImage.new("L", (4, 4), 99).save(buffer, "PNG")
    return buffer.getvalue()


def with_sound(data, alt):
    return Examples("h", [Card("c", exhibits=[Exhibit("e", sounds=[Audio(data, alt)])])])


def sections():
    bars = plots.to_svg(plots.bars(["image", "image+audio"], {"confu": [60.0, 70.0]}))
    heat = plots.to_svg(plots.heatmap([[1.0, 2.0]], ["image"], ["text", "audio"]))
    card = Card(
        "Five", [Image(png(), "a digit")], "row 3", [Prediction("image", "two", False), Prediction("b", "5", True)]
    )
    return [
        Text("What", "First <b>paragraph</b> & more.\n\nSecond."),
        Table("Numbers", ["Query", "Accuracy (%)"], [["image", "60.0"], ["image+audio", "70.0"]], "Test rows.", (1,)),
        Figure("Bars", bars, "Bars: 60 and 70.", "Accuracy."),
        Figure("Bars again", bars, 'With "quotes" & <marks>.'),
        Figure("Heat", heat, "Two cells."),
        PlanText("Plan", "image ~ text   1.0"),
        Examples("Examples", [card], "Found by both together."),
        Command("Next", "confu reproduce xor --size small && echo '<done>'", "Try."),
    ]


def test_the_page_nests_and_every_link_stays_inside(tmp_path):
    path = write_report(tmp_path / "report.html", "ConFu <digits>", sections(), "Found.", {"confu": "0.1"})
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in page.ids
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_what_users_write_is_escaped():
    text = render_report("<script>alert(1)</script>", sections())
    assert "<script>alert" not in text
    assert "First &lt;b&gt;paragraph&lt;/b&gt; &amp; more." in text
    assert "&lt;done&gt;" in text
    assert 'aria-label="With &#34;quotes&#34; &amp; &lt;marks&gt;."' in text


def test_the_page_can_be_read_without_seeing_it():
    page = Page(render_report("Digits", sections()))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(figures) == 3
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)
    assert ("html", {"lang": "en"}) in page.tags


def test_right_and_wrong_are_words_and_rows_are_emphasised():
    text = render_report("Digits", sections())
    assert re.search(r'class="wrong">two .*</span> wrong<', text)
    assert re.search(r'class="right">5 .*</span> right<', text)
    assert text.count('<tr class="emphasised">') == 1


def wav(seconds=0.1):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(round(8000 * seconds)), 8000, format="WAV")
    return buffer.getvalue()


def group():
    exhibit = Exhibit("asked with: audio", [Image(png(), "a spectrogram")], [Audio(wav(), "a <spoken> five")], "0.1 s")
    return Group(
        "Grouped <sections>",
        [
            Examples("", [Card("five", exhibits=[exhibit])]),
            Table("Many", ["a"], [["1"]], "Caption.", folded="All <3> rows"),
            PlanText("Plan", "x ~ y", folded="The plan"),
            Figure("Bars", plots.to_svg(plots.bars(["image"], {"confu": [1.0]})), "One bar."),
        ],
        "First.\n\nSecond & last.",
    )


def test_a_group_has_one_entry_and_smaller_headings():
    text = render_report("Digits", [group(), group(), *sections()])
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert text.count('<li><a href="#') == 2 + len(sections())
    assert all(link.startswith("data:") or link.removeprefix("#") in page.ids for link in page.links)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert "<p>Second &amp; last.</p>" in text
    assert text.count("<details><summary>All &lt;3&gt; rows</summary>") == 2


def test_a_sound_is_in_the_page_and_says_what_it_is():
    text = render_report("Digits", [group()])
    (attributes,) = [attrs for tag, attrs in Page(text).tags if tag == "audio"]
    assert attributes["src"].startswith("data:audio/wav;base64,")
    assert base64.b64decode(attributes["src"].split(",")[1]) == wav()
    assert attributes["aria-label"] == "a <spoken> five"
    assert set(attributes) == {"controls", "preload", "aria-label", "src"}
    assert "media-src data:" in text


def test_a_page_without_a_command_has_no_script_and_allows_none():
    passive = render_report("Digits", [group()])
    assert "<script" not in passive
    assert "script-src" not in passive
    assert "default-src 'none'" in passive
    assert "<script" in render_report("Digits", sections())
    assert "script-src" in render_report("Digits", [Group("g", [Command("Next", "confu demo")])])


def test_a_page_needs_no_section():
    assert Page(render_report("Empty", [])).tags


@pytest.mark.parametrize(
    "content",
    [
        "<script>1</script>",
        '<rect onclick="x()"/>',
        '<image href="https://example.org/a.png"/>',
        '<use xlink:href="other.svg#a"/>',
        "<style>@import 'a.css'</style>",
        '<rect style="fill: url(https://example.org/a)"/>',
        "<foreignObject></foreignObject>",
    ],
)
def test_an_active_svg_is_refused(content):
    with pytest.raises(ValueError, match="svg may load and run nothing"):
        render_report("x", [Figure("h", f"<svg>{content}</svg>", "alt")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Figure("h", "<p>", "alt"), "svg must be an <svg> element; got '<p>'"),
        (lambda: Figure("h", "<svg></svg>", ""), "alt must say what the figure shows"),
        (lambda: Examples("h", [Card("c", [Image(b"GIF89a", "a")])]), "the image 'a' must be PNG bytes"),
        (lambda: Examples("h", [Card("c", [Image(png(), "")])]), "alt must say what the image shows"),
        (lambda: with_sound(b"ID3 mp3", "a"), "the sound 'a' must be WAV bytes; got b'ID3 mp3'"),
        (lambda: with_sound(wav(), ""), "alt must say what the sound is"),
        (lambda: Group("g", [Figure("h", "<svg><script/></svg>", "alt")]), "svg may load and run nothing"),
        (lambda: Table("h", ["a", "b"], [["1"]]), "row 0 of the table 'h' must have 2 cells; got 1"),
        (lambda: Table("h", ["a"], [["1"]], emphasised=(1,)), r"emphasised rows of 'h' must lie in 0\.\.0; got 1"),
    ],
)
def test_bad_sections_are_refused_and_leave_no_file(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "report.html", "x", [make()])
    assert list(tmp_path.iterdir()) == []
