"""Texts in a run: learned tokens, texts that are longer than the encoder takes, and names without letters."""

import json
import re
import warnings

import pytest
import torch

from confu.inference import load
from confu.inference.model_folder import load_inputs
from confu.runs import check, embed_manifest, evaluate, train

LABELS = ("⺀", "一", "_")
WORDS = (("一只鸟", "นกร้อง", "鳥"), ("两条鱼", "ปลา", "魚"), ("三头牛", "วัว", "牛"))
RUN = """
manifest: rows.jsonl
out: {out}
modalities:
  size: {{column: size, kind: vector, encoder: {{kind: mlp, hidden_dims: [16], out_dim: 16}}}}
  words: {{column: words, kind: text, {text}}}
model: {{dim: 16}}
plan: {{kind: pairwise}}
train: {{epochs: 16, batch_size: 12, lr: 1e-2}}
data: {{group: words, shares: [0.5, 0.25, 0.25]}}
"""
TOKENS = "reader: {kind: tokens, min_frequency: 2}, encoder: {kind: tokens, width: 16, layers: 1, out_dim: 16}"
BAG = "reader: {kind: tokens, min_frequency: 2}, encoder: {kind: bag, width: 16, out_dim: 16}"
OLD = "encoder: {kind: tokens, width: 16, layers: 1, out_dim: 16}"


def write(folder, text, rows=60, long_row=None):
    lines = []
    for row in range(rows):
        kind = row % 3
        size = [10.0 * (kind == axis) + 0.1 * (row % 7) for axis in range(3)]
        words = "一 bird " * 50_000 if row == long_row else f"{WORDS[kind][row % 9 // 3]} {row % 2}"
        lines.append(json.dumps({"id": f"r{row}", "size": size, "words": words, "label": LABELS[kind]}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    (folder / "run.yaml").write_text(RUN.format(out="run", text=text), encoding="utf-8")
    return folder / "run.yaml"


@pytest.mark.parametrize("text", [TOKENS, BAG], ids=["transformer", "bag"])
def test_texts_of_any_script_are_learned(text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # no text is cut
        folder = train(write(tmp_path, text), progress=False)
        embedder = load(folder)
        vectors = embedder.encode(words=[word for words in WORDS for word in words])
        sizes = embedder.encode(size=torch.eye(3).mul(10).tolist())
    alike = embedder.similarity(vectors, vectors).fill_diagonal_(-1)
    assert not bool((alike > 1 - 1e-5).any())  # unlike texts are told apart
    nearest = embedder.similarity(vectors, sizes).argmax(1)
    assert int((nearest == torch.arange(3).repeat_interleave(3)).sum()) >= 6  # by chance 3


def test_classes_without_letters_are_prompts(tmp_path):
    folder = train(write(tmp_path, BAG), ["train.epochs=1"], progress=False)
    report = evaluate(folder, progress=False)
    assert any(row.metric == "accuracy" for row in report.rows)
    assert report.settings["evaluation"]["classification"] == "zero-shot"


@pytest.mark.parametrize("text", [TOKENS, BAG, OLD], ids=["transformer", "bag", "words"])
def test_a_very_long_text_is_cut_counted_and_said(text, tmp_path):
    run = write(tmp_path, text, long_row=3)
    limit = 512 if text == OLD else None if text == BAG else 256
    message = r"words: 1 text is longer than (\d+) tokens and was cut to them"
    with pytest.warns(UserWarning, match=message) as caught:
        assert check(run, tmp_path, progress=False).sound
    assert int(re.search(message, str(caught[0].message))[1]) <= (limit or 256)
    with pytest.warns(UserWarning, match=message):
        folder = train(run, ["train.epochs=1"], progress=False)
    with pytest.warns(UserWarning, match=message) as caught:
        done = embed_manifest(folder, tmp_path / "rows.jsonl", tmp_path / "shards", shard_rows=40, progress=False)
    assert done.rows == 60 and not done.skipped
    assert [one.category for one in caught] == [UserWarning]
    with pytest.warns(UserWarning, match=r"words: 2 texts are longer .* were cut"):
        vectors = load(folder).encode(words=["一 bird " * 1000, "一 bird " * 2000, "一"]).vectors
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6) and not torch.allclose(vectors[0], vectors[2], atol=1e-3)


def test_an_earlier_vocabulary_without_letters_is_noted(tmp_path):
    rows = write(tmp_path, OLD)
    folder = train(rows, ["train.epochs=1"], progress=False)
    assert load_inputs(folder)["readers"]["words"].keys() == {"kind", "vocabulary"}
    report = evaluate(folder, progress=False, templates=["{}"])
    assert any("the reader of words cannot read (_ and ⺀)" in note for note in report.settings["notes"])
