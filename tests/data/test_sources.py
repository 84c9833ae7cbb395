import pickle

import numpy as np
import pytest
import torch

from confu.data import ArrayDataset, Column
from confu.data.parallel import in_threads
from confu.data.readers import ImageReader, SequenceReader, words_reader_from_texts
from confu.data.sources import SourceColumn

from .counting import CountingReader, taken, vectors


def test_only_the_rows_of_the_batch_are_read():
    reader = CountingReader()
    sources = [*vectors(5), None]
    column = SourceColumn(sources, reader)
    assert isinstance(column, Column)
    column.check("sensor")
    assert (len(column), column.present.tolist(), reader.read_sources) == (6, [True] * 5 + [False], [])
    assert taken(column, [4, 5, 1, 4]) == [sources[4], None, sources[1], sources[4]]
    assert reader.read_sources == [sources[4], sources[1]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_nothing_but_the_time(workers):
    reader = CountingReader(seconds=0.005)
    column = SourceColumn(vectors(40), reader, workers=workers)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    assert taken(column, rows) == [vectors(40)[row] for row in rows]
    assert len(reader.threads) == max(1, workers)
    assert taken(pickle.loads(pickle.dumps(SourceColumn(vectors(3), CountingReader(), workers))), [1]) == vectors(1, 1)


def test_equal_paths_and_texts_are_one_input(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    reader = CountingReader()
    column = SourceColumn([str(tmp_path / "a.npy"), tmp_path / "a.npy", [1.0, 1.0, 1.0]], reader)
    inputs = column.take(torch.tensor([0, 1, 2]), "sensor")
    assert inputs.rows.tolist() == [0, 0, 1]
    texts = ["a one", None, "a two", "a one"]
    inputs = SourceColumn(texts, words_reader_from_texts(texts)).take(torch.tensor([3, 0, 1, 2]), "text")
    assert inputs.rows.tolist() == [0, 0, -1, 1]
    assert inputs.values["input_ids"].tolist() == [[1, 3, 4], [1, 3, 5]]


def test_a_batch_without_any_source_is_empty():
    for reader, shape in ((ImageReader(4), (0, 3, 4, 4)), (CountingReader(), (0, 3))):
        inputs = SourceColumn([None, None], reader).take(torch.tensor([0, 1]), "image")
        assert inputs.values.shape == shape
        assert inputs.rows.tolist() == [-1, -1]
    inputs = SourceColumn([None], SequenceReader(2)).take(torch.tensor([0]), "sensor")
    assert inputs.values["values"].shape == (0, 0, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_the_row(workers):
    sources = [*vectors(3), [1.0], "nowhere.npy"]
    column = SourceColumn(sources, CountingReader(), workers, where=lambda row: f"row {row} (id c-{row}), column 'x'")
    assert taken(column, [0]) == [sources[0]]
    with pytest.raises(ValueError, match=r"^row 3 \(id c-3\), column 'x': list of 1: expected a vector of 3 numbers"):
        column.take(torch.tensor([0, 3, 4]), "sensor")
    with pytest.raises(ValueError, match=r"^row 4: nowhere.npy: cannot be read: no such file"):
        SourceColumn(sources, CountingReader(), workers).take(torch.tensor([4]), "sensor")


def test_it_serves_a_data_set():
    data = ArrayDataset({"sensor": SourceColumn([*vectors(3), None], CountingReader())})
    assert data.batch(torch.tensor([3, 2])).inputs["sensor"].present.tolist() == [False, True]


def test_no_more_is_begun_than_is_needed_soon():
    begun = []
    results = in_threads(lambda number: begun.append(number) or number, iter(range(1000)), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(begun) < 20
    with pytest.raises(ValueError, match="workers: expected a number of threads"):
        list(in_threads(abs, [1], -1))
