import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, Dataset, SequenceColumn, TensorColumn, WordVocabulary
from confu.data.corruptions import CorruptedDataset, Dropped
from confu.data.dataset import RowsOf, row_contents
from confu.plan import Subset
from confu.types import Embeddings, joint_contents


def columns(rows=4):
    return {"image": TensorColumn(torch.randn(rows, 3)), "audio": TensorColumn(torch.randn(rows, 2))}


def test_batch_holds_rows_ids_and_labels_in_the_order_asked():
    data = ArrayDataset(columns(), torch.tensor([0, 1, 1, 0]), list("wxyz"), ["no", "yes"])
    batch = data.batch(torch.tensor([3, 1]))
    assert batch.ids == ["z", "x"]
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1]
    assert set(batch.inputs) == {"image", "audio"}
    assert isinstance(data, Dataset)


def test_ids_are_row_numbers_unless_given():
    assert ArrayDataset(columns()).batch(torch.tensor([2])).ids == ["2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": {}}, "columns: expected at least one"),
        ({"columns": {**columns(4), "text": TensorColumn(torch.zeros(3, 1))}}, "'text': 3"),
        ({"columns": columns(), "labels": torch.zeros(3, dtype=torch.long)}, "labels: expected 4"),
        ({"columns": columns(), "ids": ["a"]}, "ids: expected 4"),
        ({"columns": columns(), "labels": torch.arange(4), "class_names": ["a"]}, "labels: expected 0 to 0"),
        ({"columns": {"image": TensorColumn(torch.full((2, 1), torch.nan))}}, "modality 'image', row 0"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArrayDataset(**arguments)


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside_the_rows_is_refused(index):
    with pytest.raises(ValueError, match="indices: expected 0 to 3"):
        ArrayDataset(columns()).batch(torch.tensor([0, index]))


def test_equal_inputs_have_equal_contents():
    """By value, whatever else is in the batch and however it is padded; captions and cached items by their number."""
    steps = [torch.ones(2, 1), torch.ones(1, 1), None, torch.ones(2, 1), torch.tensor([[1.0], [0.0]]), torch.ones(4, 1)]
    pixels = torch.tensor([[1, 2], [2, 1], [1, 2], [0, 3], [2, 1], [0, 0]], dtype=torch.uint8)
    captions = CaptionColumn(["a", "b"], torch.tensor([0, 1, -1, 0, 0, 1]), WordVocabulary.from_texts(["a", "b"]))
    columns = {"image": TensorColumn(pixels, scale=255), "sensor": SequenceColumn(steps), "text": captions}
    data = RowsOf(ArrayDataset(columns), torch.arange(6))
    assert list(data.batch(torch.tensor([2, 4])).contents) == ["text"]
    known = data.batch(torch.arange(6)).with_contents().contents
    assert known["text"].tolist() == captions.index.tolist()
    expected = {"image": pixels.tolist(), "sensor": [one if one is None else one.tolist() for one in steps]}
    for name, values in expected.items():
        numbers = known[name].tolist()
        assert [number < 0 for number in numbers] == [value is None for value in values]
        assert [one == numbers[0] for one in numbers] == [value == values[0] for value in values]
        short = data.batch(torch.tensor([3, 1])).with_contents().contents[name].tolist()  # padded to fewer steps
        assert short == [numbers[3], numbers[1]]
    dropped = CorruptedDataset(data, {"text": Dropped()})
    assert row_contents(dropped)["text"].tolist() == [-1] * 6


def test_contents_of_several_modalities_are_equal_if_all_are():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randint(-1, 4, (60,), generator=generator) for _ in range(3)]
    joint = joint_contents(parts).tolist()
    rows = [None if -1 in row else row for row in zip(*(part.tolist() for part in parts))]
    for row, number in zip(rows, joint):
        assert (number < 0) == (row is None)
        assert [one == number for one in joint] == [one == row for one in rows]
    with pytest.raises(ValueError, match=r"needs the contents of b; got those of a\..*`batch.with_contents\(\)`"):
        Embeddings({}, contents={"a": parts[0]}).content(Subset("a", "b"))
