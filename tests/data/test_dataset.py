import pytest
import torch

from confu.data import ArrayDataset, Dataset, TensorColumn


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
