import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from confu.data import CaptionColumn, Column, TensorColumn, WordVocabulary, part_store
from confu.data.cache import decoded_column, feature_column
from confu.data.readers import ImageReader, build_reader, words_reader_from_texts
from confu.data.sources import SourceColumn

from .counting import CountingReader, taken, vectors
from .readers.fixtures import CASES, blocks, image_bytes

QUIET = {"progress": False}


def files(cache) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.npy"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_cached_column_is_the_uncached_one(tmp_path, case, workers):
    settings, source = CASES[case]
    reader = build_reader({"kind": case, **settings})
    sources = [source, None, source]
    plain = SourceColumn(sources, reader)
    for _ in range(2):
        column = decoded_column(sources, reader, tmp_path, workers, **QUIET)
        assert isinstance(column, Column)
        assert column.present.tolist() == [True, False, True]
        column.check("x")
        for rows in ([0, 1, 2], [2], [1], []):
            indices = torch.tensor(rows, dtype=torch.long)
            expected, inputs = plain.take(indices, "x"), column.take(indices, "x")
            assert inputs.rows.tolist() == expected.rows.tolist()
            first, second = (one if isinstance(one, dict) else {"": one} for one in (inputs.values, expected.values))
            assert all(torch.equal(first[name], second[name]) for name in second)


def test_what_is_cached_is_not_read_again_and_new_rows_are(tmp_path):
    first, second = CountingReader(), CountingReader()
    decoded_column(vectors(5), first, tmp_path, **QUIET)
    assert len(first.read_sources) == 5
    sources = [*vectors(7), None, *vectors(2)]
    column = decoded_column(sources, second, tmp_path, workers=2, **QUIET)
    assert sorted(second.read_sources) == vectors(2, 5)
    assert taken(column, list(range(10))) == sources


def test_equal_content_is_stored_once_wherever_it_lies(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(image_bytes(blocks()))
    sources = [tmp_path / "a.png", str(tmp_path / "b.png"), image_bytes(blocks()), image_bytes(blocks(seed=1))]
    column = decoded_column(sources, ImageReader(8), tmp_path / "cache", **QUIET)
    (part,) = column.store.parts
    assert part.shape == (2, 3, 8, 8)
    assert column.take(torch.tensor([3, 0, 1, 2]), "image").rows.tolist() == [1, 0, 0, 0]
    (tmp_path / "a.png").write_bytes(image_bytes(blocks(seed=2)))  # the same name, another picture
    column = decoded_column(sources, ImageReader(8), tmp_path / "cache", **QUIET)
    values = column.take(torch.tensor([0]), "image").values
    assert torch.equal(values[0], ImageReader(8).collate([ImageReader(8).read(blocks(seed=2))])[0])


def test_other_settings_are_another_cache(tmp_path):
    source = [image_bytes(blocks())]
    shapes = {decoded_column(source, ImageReader(size), tmp_path, **QUIET).take(torch.tensor([0]), "").values.shape
              for size in (4, 6)}  # fmt: skip
    assert shapes == {(1, 3, 4, 4), (1, 3, 6, 6)}
    assert len(list(tmp_path.glob("image-*/settings.json"))) == 2


def test_a_broken_source_names_its_row_and_loses_nothing(tmp_path):
    sources = [*vectors(4), [9.0], *vectors(3, 4)]
    where = "row {} (id c-{})"
    with pytest.raises(ValueError, match=r"^row 4 \(id c-4\): list of 1: expected a vector of 3 numbers"):
        decoded_column(sources, CountingReader(), tmp_path, **QUIET, where=lambda row: where.format(row, row))
    reader = CountingReader()
    decoded_column([*vectors(7)], reader, tmp_path, **QUIET)
    assert reader.read_sources == vectors(3, 4)
    with pytest.raises(ValueError, match=r"^row 1: nowhere.npy: cannot be read"):
        decoded_column([*vectors(1), "nowhere.npy"], CountingReader(), tmp_path, workers=2, **QUIET)


def fill_slowly(cache, seconds: float) -> None:
    part_store.PART_SECONDS = 0.05
    decoded_column(vectors(60), CountingReader(seconds=seconds), cache, **QUIET)


def test_a_killed_process_is_gone_on_with(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=fill_slowly, args=(tmp_path, 0.02))
    process.start()
    until = time.monotonic() + 20
    while len(files(tmp_path)) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    reader = CountingReader()
    column = decoded_column(vectors(60), reader, tmp_path, **QUIET)
    assert 0 < len(reader.read_sources) < 60
    assert taken(column, list(range(60))) == vectors(60)


def test_two_processes_may_fill_one_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill_slowly, args=(tmp_path, 0.003)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    reader = CountingReader()
    column = decoded_column(vectors(60), reader, tmp_path, **QUIET)
    assert reader.read_sources == []
    assert taken(column, list(range(60))) == vectors(60)


def test_texts_become_a_column_of_distinct_captions(tmp_path):
    texts = ["a bird", None, "a cat", "a bird"]
    column = decoded_column(texts, words_reader_from_texts(texts), tmp_path, **QUIET)
    assert isinstance(column, CaptionColumn)
    assert (column.captions, column.index.tolist()) == (["a bird", "a cat"], [0, -1, 1, 0])
    with pytest.raises(ValueError, match=r"^row 2: ' ': an empty text"):
        decoded_column(["a", None, " "], words_reader_from_texts(["a"]), tmp_path, **QUIET)
    empty = decoded_column([None, None], words_reader_from_texts(["a"]), tmp_path, **QUIET)
    assert empty.take(torch.tensor([0, 1]), "text").rows.tolist() == [-1, -1]


class Doubling:
    """An encoder of vectors, or of tokens, that counts the rows it was given."""

    def __init__(self) -> None:
        self.rows = 0
        self.weight = torch.ones(1, requires_grad=True)

    def __call__(self, values: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
        values = values["input_ids"] if isinstance(values, dict) else values
        assert not (values * self.weight).requires_grad
        self.rows += len(values)
        return 2 * values[:, :2].to(torch.bfloat16)


def columns(tmp_path, sources):
    yield SourceColumn(sources, CountingReader())
    yield decoded_column(sources, CountingReader(), tmp_path / "decoded", **QUIET)


def test_features_are_computed_once_for_each_content(tmp_path):
    sources = [*vectors(5), None, *vectors(2)]
    for number, column in enumerate(columns(tmp_path, sources)):
        for encoder, rows in ((Doubling(), 5), (Doubling(), 0)):
            features = feature_column(column, sources, encoder, "double", tmp_path / str(number), batch_size=2, **QUIET)
            assert encoder.rows == rows
            assert taken(features, [6, 5, 4]) == [[0.0, 2.0], None, [8.0, 2.0]]
        assert features.present.tolist() == column.present.tolist()
        inputs = features.take(torch.tensor([0, 6, 5]), "x")
        assert inputs.values["features"].dtype == torch.float32
        assert inputs.rows.tolist() == [0, 0, -1]
        new, other = Doubling(), Doubling()
        more = [*sources, *vectors(1, 9)]
        feature_column(SourceColumn(more, CountingReader()), more, new, "double", tmp_path / str(number), **QUIET)
        feature_column(column, sources, other, "another encoder", tmp_path / str(number), **QUIET)
        assert (new.rows, other.rows) == (1, 5)


def test_a_cached_column_needs_no_second_look_at_the_sources(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3.0))
    sources = [tmp_path / "a.npy"]
    column = decoded_column(sources, CountingReader(), tmp_path / "cache", **QUIET)
    (tmp_path / "a.npy").unlink()
    features = feature_column(column, sources, Doubling(), "double", tmp_path / "cache", **QUIET)
    assert taken(features, [0]) == [[0.0, 2.0]]


def test_features_of_texts(tmp_path):
    texts = ["a bird", None, "a cat", "a bird"]
    reader = words_reader_from_texts(texts)
    for column in (decoded_column(texts, reader, tmp_path, **QUIET), SourceColumn(texts, reader)):
        encoder = Doubling()
        features = feature_column(column, texts, encoder, type(column).__name__, tmp_path, **QUIET)
        assert encoder.rows == 2
        assert taken(features, [3, 1, 0, 2]) == [[2.0, 6.0], None, [2.0, 6.0], [2.0, 6.0]]


def test_features_that_cannot_be_computed_are_named(tmp_path):
    sources = vectors(3)
    column = SourceColumn(sources, CountingReader())

    def broken(values):
        return torch.where(values[:, :1] == 1, torch.nan, values)

    with pytest.raises(ValueError, match=r"^row 1: its features are NaN or infinite"):
        feature_column(column, sources, broken, "broken", tmp_path, **QUIET)
    with pytest.raises(ValueError, match="sources: expected one for each of 3 rows"):
        feature_column(column, [*sources[:2], None], Doubling(), "x", tmp_path, **QUIET)
    with pytest.raises(ValueError, match="a TensorColumn does not say how its values were read; give settings"):
        feature_column(TensorColumn(torch.rand(3, 2)), sources, Doubling(), "x", tmp_path, **QUIET)
    captions = CaptionColumn(["a"], torch.tensor([0]), WordVocabulary(["a"]))
    with pytest.raises(ValueError, match="a CaptionColumn does not say"):
        feature_column(captions, ["a"], Doubling(), "x", tmp_path, **QUIET)
    values = torch.tensor(sources)
    features = feature_column(
        TensorColumn(values), sources, Doubling(), "x", tmp_path, **QUIET, settings={"made": "by hand"}
    )
    assert taken(features, [2]) == [[4.0, 2.0]]


def test_progress_is_shown_on_request(tmp_path, capsys):
    decoded_column(vectors(2), CountingReader(), tmp_path / "a", progress=True)
    decoded_column(vectors(2), CountingReader(), tmp_path / "b", progress=False)
    decoded_column([None], CountingReader(), tmp_path / "c", progress=True)
    assert capsys.readouterr().out == ""
