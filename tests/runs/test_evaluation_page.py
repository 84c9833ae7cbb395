"""The page: for any number of modalities, any method, with gaps, without labels, for tiny tests; always passive."""

import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from confu.data.manifest import Problem
from confu.data.readers import build_reader
from confu.evaluation.html import render_report
from confu.runs.page import page_sections, page_summary
from confu.runs.page_media import CellView
from evaluation.test_html import Page
from runs.evaluated import make_evaluated, make_table


def rendered(found):
    return render_report(found.title, page_sections(found), page_summary(found))


def headings(text, level=2):
    return re.findall(rf"<h{level}[^>]*>(.*?)</h{level}>", text)


def check_passive(text):
    """One file: nothing is loaded, nothing runs."""
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert (
            link.startswith(("data:image/png;base64,", "data:audio/wav;base64,")) or link.removeprefix("#") in page.ids
        )
    assert not {"script", "iframe", "object", "link", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", text)
    assert not re.search(r"\son\w+=", re.sub(r'"[^"]*"', '""', text))
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


@pytest.fixture
def unpainted(monkeypatch):
    """Figures are made but not drawn, which takes most of the time of a page."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **more: file.write("<svg ></svg>"))


def log(folder, ranks=()):
    terms = {"image ~ text": 2.0, "image+audio ~ text": 1.5}
    records = [{"kind": "train", "step": step, "epoch": 1, "lr": 0.1, "total": 3.5, "terms": terms} for step in (1, 2)]
    records[0]["terms"] = {"image ~ text": 2.2}  # the other one had no complete row in this batch
    for epoch, total in ((1, 3.0), (2, 2.5), (3, 2.7)):
        records.append({"kind": "validation", "step": 2 * epoch, "epoch": epoch, "seconds": 4.2 * epoch, "total": total,
                        "terms": terms})  # fmt: skip
    for record, rank in zip(records[2:], ranks):
        record |= {"mrr": rank, "mrr_by_query": {"image -> text": rank}}
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize(
    ("settings", "sections"),
    [
        ({"gaps": 0.3}, ["What fusion adds", "Zero-shot classification", "Who is right"]),
        ({"modalities": 2}, ["Nearest class centroid", "Who is right"]),
        ({"labels": False}, ["What fusion adds", "Who is right"]),
        ({"score": "multilinear"}, ["Zero-shot classification"]),
        ({"score": "volume", "gaps": 0.2}, ["Zero-shot classification", "Who is right"]),
        ({"fused": False}, ["Zero-shot classification", "Who is right"]),
    ],
    ids=["gaps", "two", "unlabelled", "multilinear", "volume", "unfused"],
)
def test_every_kind_of_table_has_its_sections(tmp_path, settings, sections, unpainted):
    log(tmp_path)
    text = rendered(make_evaluated(tmp_path, make_table(**settings)))
    check_passive(text)
    always = ["Training", "Retrieval", "The worst queries", "A map of the embeddings", "The data", "Settings"]
    assert set(headings(text)) == {*always, *sections}
    assert "The model is that of epoch 2" in text


def test_the_ranks_that_chose_the_epoch_are_drawn(tmp_path, unpainted, monkeypatch):
    curves = []
    monkeypatch.setattr("confu.runs.page.training_curves", lambda *series, **labels: curves.append(series) or Figure())
    log(tmp_path, ranks=(0.2, 0.3, 0.4))
    text = rendered(make_evaluated(tmp_path, make_table(8, 2, labels=False)))
    assert "epoch 3, whose validation mean reciprocal rank is highest" in text
    series = [2, 4, 6], [0.2, 0.3, 0.4]
    assert curves[1] == ({}, {"mean": series, "image -> text": series})


def test_many_queries_are_folded(tmp_path, unpainted):
    text = rendered(make_evaluated(tmp_path, make_table(12, 4, labels=False)))
    check_passive(text)
    assert re.search(r"<summary>All \d{2,} queries</summary>", text)
    assert "Fused targets are in the table only." in text


@pytest.mark.parametrize("n", [1, 2, 4])
def test_tiny_tests_have_a_page(tmp_path, n, request):
    if n != 2:  # the figures of two rows are drawn: axes without a width must not fail
        request.getfixturevalue("unpainted")
    text = rendered(make_evaluated(tmp_path, make_table(n), how="centroid"))
    check_passive(text)
    assert ("Nothing could be ranked" in text) == (n == 1)


def test_centroids_are_not_called_zero_shot(tmp_path, unpainted):
    text = rendered(make_evaluated(tmp_path, make_table(), how="centroid"))
    assert "Nearest class centroid" in headings(text)
    assert "This is not zero-shot" in text


def test_numbers_on_the_page_are_those_of_the_table(tmp_path, unpainted):
    table = make_table(60, gaps=0.2)
    found = make_evaluated(tmp_path, table, torch.arange(60) // 3)
    text = rendered(found)
    rows = table.rows_with("image+audio", "text")
    scores = table["image+audio"][rows] @ table["text"][rows].T
    ranks = 1 + (scores > scores.diagonal()[:, None] + 1e-6).sum(1)
    cells = re.search(r"<th scope=\"row\">image\+audio → text</th>(.*?)</tr>", text).group(1)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", cells)
    expected = [str(len(rows)), *(f"{100 * float((ranks <= k).float().mean()):.1f}" for k in (1, 5, 10))]
    assert cells[:4] == expected
    assert cells[7:9] == [f"{float(ranks.double().quantile(0.5)):.1f}", f"{float((1 / ranks).mean()):.3f}"]
    assert "Recall at 10, by group" in headings(text, 3)
    assert f"finds the row&#39;s own text first for {expected[1]} % of {len(rows)} rows" in text
    worst = re.search(r"<h3>(r\d+): rank (\d+) of", text)
    assert int(worst.group(2)) == int(ranks.max())
    assert int(worst.group(1)[1:]) == int(rows[int(ranks.argmax())])
    lacking = int((~torch.stack([table.complete[one] for one in table.subsets if not one.is_fused]).all(0)).sum())
    assert f"{lacking} test rows lack a modality" in text


def test_notes_refusals_and_rows_set_aside_are_told(tmp_path, unpainted):
    skipped = [Problem(3, "r3", "photo", "3.png", "cut <short>"), Problem(7, "r7", "sound", "7.wav", "no such file")]
    found = make_evaluated(tmp_path, make_table(score="multilinear"), notes=["Ranked among 5 of 9."], skipped=skipped)
    text = rendered(found)
    assert "Ranked among 5 of 9." in text
    assert "compares image, audio, text all at once" in text
    assert "2 rows were set aside." in text
    assert "cut &lt;short&gt;" in text
    assert "1 in photo and 1 in sound" in text


def test_a_run_without_a_log_has_a_page(tmp_path, unpainted):
    assert "There is no log.jsonl" in rendered(make_evaluated(tmp_path, make_table(6)))


def sources(folder):
    """By kind, something to show and the reader of it."""
    PillowImage.fromarray(np.full((300, 200, 3), 90, np.uint8)).save(folder / "a.png")
    soundfile.write(folder / "a.wav", np.sin(np.arange(40_000) / 9), 8000)
    return {
        "image": (str(folder / "a.png"), {"kind": "image", "size": 64}),
        "audio": (str(folder / "a.wav"), {"kind": "mel", "rate": 8000, "seconds": 1.0, "mels": 20}),
        "text": ("two & three", {"kind": "words", "vocabulary": ["two"]}),
        "vector": ([1.0, 2.5], {"kind": "vector", "dim": 2}),
        "sequence": ([[0.0, 1.0], [2.0, 3.0]], {"kind": "sequence", "dim": 2}),
        "number": (3.25, {"kind": "number", "mean": 0.0, "std": 1.0}),
    }


@pytest.mark.parametrize("kind", ["image", "audio", "text", "vector", "sequence", "number"])
def test_each_kind_is_shown(tmp_path, kind):
    source, reader = sources(tmp_path)[kind]
    exhibit = CellView("thing", kind, build_reader(reader), {"a": source}.get).show("a", "sought: its thing")
    assert exhibit.label == "sought: its thing"
    assert len(exhibit.images) == (kind in ("image", "audio", "sequence"))
    if kind == "audio":
        rate, samples = soundfile.read(io.BytesIO(exhibit.sounds[0].wav))[::-1]
        assert (rate, len(samples)) == (8000, 32_000)
        assert exhibit.text == "5.0 s, the first 4 to be heard"
    expected = {"text": "“two & three”", "vector": "1, 2.5", "number": "3.25", "sequence": "2 steps of 2 numbers"}
    assert exhibit.text.startswith(expected.get(kind, ""))


def test_what_is_missing_or_gone_is_said(tmp_path):
    reader = build_reader({"kind": "image", "size": 8})
    assert CellView("photo", "image", reader, {}.get).show("a", "x").text == "no photo"
    gone = CellView("photo", "image", reader, {"a": str(tmp_path / "gone.png")}.get).show("a", "x")
    assert gone.text.startswith("could not be shown: ")
    assert "no such file" in gone.text


def test_media_are_in_the_page(tmp_path, unpainted):
    source, reader = sources(tmp_path)["audio"]
    table = make_table(20)
    words = build_reader({"kind": "words", "vocabulary": ["a"]})
    views = {
        "audio": CellView("audio", "audio", build_reader(reader), lambda id: source),
        "text": CellView("text", "text", words, "text <{}>".format),
    }
    text = rendered(make_evaluated(tmp_path, table, views=views))
    check_passive(text)
    assert text.count("<audio controls") == 6
    assert "asked with: audio" in text
    assert "sought: its text" in text
    assert "“text &lt;r" in text
    assert re.search(r"found first: text of r\d+", text)
