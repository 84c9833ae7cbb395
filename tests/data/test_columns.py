import pickle

import numpy as np
import pytest
import torch

from confu.data import ArrayDataset, Column, WordVocabulary
from confu.data.columns import CaptionColumn, SequenceColumn, SourceColumn, TensorColumn
from confu.data.parallel import in_threads
from confu.data.readers import ImageReader, SequenceReader, VectorReader, words_reader_from_texts

from .counting import CountingReader, taken, vectors

CAPTIONS = ["a one", "a photo of a two", "three"]
VOCABULARY = WordVocabulary.from_texts(CAPTIONS)


def test_tensor_column_keeps_order_and_repeats():
    values = torch.randn(6, 3)
    inputs = TensorColumn(values).take(torch.tensor([4, 0, 4]), "image")
    assert torch.equal(inputs.values, values[[4, 0, 4]])
    assert inputs.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.float32])
def test_floats_of_any_width_become_float32(dtype):
    assert TensorColumn(np.ones((2, 3), dtype=dtype)).take(torch.tensor([1]), "image").values.dtype == torch.float32


def test_integers_stay_whole_unless_scaled():
    values = torch.tensor([[255], [51]], dtype=torch.uint8)
    assert TensorColumn(values).take(torch.tensor([0]), "image").values.dtype == torch.int64
    scaled = TensorColumn(values, scale=255).take(torch.tensor([0, 1]), "image").values
    assert torch.allclose(scaled, torch.tensor([[1.0], [0.2]]))


def test_rows_without_the_modality_send_no_values():
    values = torch.arange(8.0).reshape(4, 2)
    column = TensorColumn(values, missing=torch.tensor([False, True, False, True]))
    inputs = column.take(torch.tensor([1, 2, 3, 0]), "image")
    assert inputs.rows.tolist() == [-1, 0, -1, 1]
    assert torch.equal(inputs.values, values[[2, 0]])
    assert inputs.present.tolist() == [False, True, False, True]
    assert TensorColumn(values, missing=torch.ones(4, dtype=torch.bool)).take(
        torch.tensor([0]), "image"
    ).values.shape == (0, 2)


def test_memory_map_reads_the_same_as_memory(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, size=(10, 4), dtype=np.uint8)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    rows = torch.tensor([7, 7, 1])
    a, b = (TensorColumn(v, scale=255, shape=(1, 2, 2)).take(rows, "image").values for v in (values, mapped[:9]))
    assert a.shape == (3, 1, 2, 2)
    assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_named_at_construction(bad):
    values = torch.zeros(5, 2)
    values[3, 1] = bad
    with pytest.raises(ValueError, match=r"modality 'sensor', row 3: .*mark the row as missing"):
        TensorColumn(values).check("sensor")
    TensorColumn(values, missing=torch.arange(5) == 3).check("sensor")


def test_a_value_that_is_no_number_is_found_past_the_first_chunk(monkeypatch):
    monkeypatch.setattr("confu.data.columns._CHUNK_BYTES", 16)
    values = torch.zeros(9, 2)
    values[8] = float("nan")
    with pytest.raises(ValueError, match="row 8"):
        TensorColumn(values).check("sensor")


def test_a_memory_map_is_checked_at_the_batch(tmp_path):
    values = np.zeros((4, 2), dtype=np.float32)
    values[2] = np.nan
    np.save(tmp_path / "values.npy", values)
    column = TensorColumn(np.load(tmp_path / "values.npy", mmap_mode="r"))
    column.check("image")
    column.take(torch.tensor([0, 1]), "image")
    with pytest.raises(ValueError, match="modality 'image', row 2"):
        column.take(torch.tensor([0, 2]), "image")


def test_tensor_column_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="missing: expected shape"):
        TensorColumn(torch.zeros(3, 1), missing=torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="scale: expected a positive number"):
        TensorColumn(torch.zeros(3, 1), scale=0.0)
    with pytest.raises(ValueError, match="shape: a row holds"):
        TensorColumn(torch.zeros(3, 4), shape=(5,))


def test_sequences_are_padded_to_the_longest_of_the_batch():
    sequences = [torch.randn(steps, 2) for steps in (1, 4, 2)]
    inputs = SequenceColumn(sequences).take(torch.tensor([2, 0]), "audio")
    assert isinstance(inputs.values, dict)
    assert inputs.values["values"].shape == (2, 2, 2)
    assert inputs.values["mask"].tolist() == [[True, True], [True, False]]
    assert torch.equal(inputs.values["values"][0], sequences[2])
    assert not inputs.values["values"][1, 1].any()


def test_sequences_may_be_missing_but_not_empty():
    column = SequenceColumn([None, torch.ones(2, 3)])
    inputs = column.take(torch.tensor([0, 1, 0]), "audio")
    assert inputs.rows.tolist() == [-1, 0, -1]
    with pytest.raises(ValueError, match=r"row 1: expected .* at least one step"):
        SequenceColumn([torch.ones(2, 3), torch.ones(0, 3)])
    with pytest.raises(ValueError, match=r"same number of features; got \[2, 3\]"):
        SequenceColumn([torch.ones(2, 3), torch.ones(2, 2)])
    with pytest.raises(ValueError, match="modality 'audio', row 1"):
        SequenceColumn([None, torch.full((1, 2), torch.nan)]).check("audio")


@pytest.mark.parametrize("deduplicate", [True, False])
def test_captions_of_a_batch_are_those_of_its_rows(deduplicate):
    index = torch.tensor([2, 0, -1, 0, 1])
    column = CaptionColumn(CAPTIONS, index, VOCABULARY, deduplicate=deduplicate)
    wanted = torch.tensor([3, 1, 2, 0])
    inputs = column.take(wanted, "text")
    assert isinstance(inputs.values, dict)
    assert len(inputs.values["input_ids"]) == (2 if deduplicate else 3)
    for row, place in zip(wanted.tolist(), inputs.rows.tolist(), strict=True):
        if index[row] < 0:
            assert place == -1
            continue
        expected = VOCABULARY.encode([CAPTIONS[index[row]]])["input_ids"][0]
        real = inputs.values["attention_mask"][place].bool()
        assert torch.equal(inputs.values["input_ids"][place][real], expected)


def test_captions_are_cut_to_the_longest_of_the_batch():
    column = CaptionColumn(CAPTIONS, torch.tensor([0, 1, 2]), VOCABULARY)
    inputs = column.take(torch.tensor([2]), "text")
    assert isinstance(inputs.values, dict)
    assert inputs.values["input_ids"].shape == (1, 2)


def test_caption_index_outside_the_captions_is_refused():
    with pytest.raises(ValueError, match="index: expected -1"):
        CaptionColumn(CAPTIONS, torch.tensor([3]), VOCABULARY)


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
def test_threads_read_the_same_in_the_same_order(workers):
    reader = CountingReader(threads=max(1, workers))
    column = SourceColumn(vectors(42), reader, workers=workers)
    rows = torch.randperm(42, generator=torch.Generator().manual_seed(0)).tolist()
    assert taken(column, rows) == [vectors(42)[row] for row in rows]
    assert len(reader.threads) == max(1, workers)
    again = pickle.loads(pickle.dumps(SourceColumn(vectors(3), VectorReader(3), workers)))
    assert taken(again, [1]) == vectors(1, 1)


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
