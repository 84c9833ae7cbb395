"""The epoch is chosen by the ranks of validation queries: those of an evaluation, the same after any restart."""

import numpy as np
import pytest
import torch

from confu.data import ArrayDataset, TensorColumn, WordVocabulary
from confu.data.columns import CaptionColumn
from confu.data.gaps import IncompleteDataset, random_gaps
from confu.inference import embed
from confu.models import load_model
from confu.plan import Subset, disjoint_plan, target_plan
from confu.training import TrainSettings, fit, selection
from confu.training.log import read_log
from confu.training.selection import plan_queries
from training.cached_parts import NAMES, WIDTH, objective
from training.parts import Scripted, rows, settings, stopped

pytestmark = pytest.mark.usefixtures("without_tensorboard")


def views(count, seed, gaps=0.0, distinct=None):
    """Three noisy views of one thing; of the texts only so many differ."""
    generator = torch.Generator().manual_seed(seed)
    thing = torch.randn(count, WIDTH, generator=generator)
    values = {name: thing + 0.7 * torch.randn(count, WIDTH, generator=generator) for name in NAMES}
    if distinct is not None:
        values["text"] = values["text"][torch.arange(count) % distinct]
    whole = ArrayDataset({name: TensorColumn(one) for name, one in values.items()})
    return IncompleteDataset(whole, random_gaps(count, NAMES, gaps, seed)) if gaps else whole


def train(folder, validation, method="confu", **changes):
    made = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "select": "retrieval", **changes}
    return fit(objective(method, small=True), views(64, 1), validation, TrainSettings(**made), folder, progress=False)


def expected_ranks(folder, validation, query, target):
    """1 / rank of each query's first right target, by sorting, in a gallery where equal inputs are all right."""
    table = embed(load_model(folder / "best"), validation)
    complete = table.rows_with(query, target)
    scores = table[query][complete].double() @ table[target][complete].double().T
    (name,) = target
    inputs = validation.batch(complete).inputs[name]
    values = inputs.values[inputs.rows]
    right = (values[:, None] == values[None]).all(-1)
    best = scores.masked_fill(~right, -2).amax(1, keepdim=True)
    return 1.0 / (1 + ((scores > best + 1e-6) & ~right).sum(1))


@pytest.mark.parametrize(("gaps", "distinct"), [(0.0, None), (0.4, None), (0.0, 7)])
def test_ranks_are_those_of_an_evaluation(gaps, distinct, tmp_path):
    validation = views(45, 2, gaps, distinct)  # two batches, and 13 rows that stand in none
    result = train(tmp_path, validation)
    record = read_log(tmp_path, "validation")[result.best_epoch - 1]
    assert record["mrr"] == result.best_mrr == pytest.approx(np.mean(list(record["mrr_by_query"].values())))
    for query, target in (("audio", "text"), ("text", "image"), ("image+audio", "text")):
        expected = expected_ranks(tmp_path, validation, Subset.parse(query), Subset(target))
        assert record["mrr_by_query"][f"{query} -> {target}"] == pytest.approx(float(expected.mean()), abs=1e-6)


def test_the_epoch_with_the_best_ranks_is_kept(tmp_path, monkeypatch):
    scripted = iter([0.2, 0.5, 0.5, 0.4])
    monkeypatch.setattr(
        selection.ValidationRetrieval, "_numbers", lambda *_: {"mrr": next(scripted), "mrr_by_query": {"a -> b": 0.0}}
    )
    result = train(tmp_path, views(40, 2), epochs=4)
    assert (result.best_epoch, result.best_mrr) == (2, 0.5)
    losses = [record["total"] for record in read_log(tmp_path, "validation")]
    assert result.best_loss == losses[1] != min(losses)


@pytest.mark.parametrize("method", ["symile", "gram", "triangle", "tri-clip"])
def test_each_method_ranks_by_its_own_score(method, tmp_path):
    train(tmp_path, views(45, 2), method, epochs=1)
    (record,) = read_log(tmp_path, "validation")
    queries = {"image -> audio", "text -> audio"} if method == "tri-clip" else {"image+audio -> text"}
    assert queries <= record["mrr_by_query"].keys()
    assert len(record["mrr_by_query"]) == (6 if method == "tri-clip" else 3)


def test_choosing_by_ranks_changes_no_step(tmp_path):
    ends = [
        train(tmp_path / which, views(45, 2), chunk=8, epochs=1, select=which).best_mrr
        for which in ("loss", "retrieval")
    ]
    assert ends[0] is None and ends[1] is not None
    texts = [(tmp_path / which / "last" / "model.safetensors").read_bytes() for which in ("loss", "retrieval")]
    assert texts[0] == texts[1]
    assert "mrr" not in read_log(tmp_path / "loss", "validation")[0]


def test_a_restart_ranks_in_the_same_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "GALLERY", 20)
    train(tmp_path / "whole", views(45, 2), epochs=4)
    stopped(lambda: train(tmp_path / "cut", views(45, 2), epochs=4), at=11)
    train(tmp_path / "cut", views(45, 2), epochs=4)
    logs = [
        [(one["mrr"], one["mrr_by_query"]) for one in read_log(tmp_path / name, "validation")]
        for name in ("whole", "cut")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4
    other = selection.ValidationRetrieval(objective(small=True), views(45, 2), torch.zeros(0, 16).long(), seed=1)
    assert sorted(other._outside.tolist()) == other._outside.tolist() and len(other._outside) == 20


def test_an_objective_without_embeddings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Scripted has none as its `model`; use select 'loss'"):
        fit(Scripted(), rows(18), rows(10), settings(select="retrieval"), tmp_path, progress=False)


def test_only_single_targets_are_sought_where_there_are_any():
    queries = plan_queries(target_plan(("x", "y", "z"), "z"))
    assert {str(target) for query, target in queries if query.is_fused} == {"z"}
    assert not any(target.is_fused for _, target in plan_queries(disjoint_plan(("w", "x", "y", "z"))))
    volumes = [str(query) for query, _ in plan_queries(disjoint_plan(("w", "x", "y", "z")), "volume")]
    assert volumes == ["x+y+z", "w+y+z", "w+x+z", "w+x+y"]


def test_equal_texts_are_equal_whatever_the_batch_pads_them_to():
    captions = ["a dog", "a dog that barks at night"]
    column = CaptionColumn(captions, torch.tensor([0, 1, 0, -1]), WordVocabulary.from_texts(captions))
    short, long = (column.take(torch.tensor(rows), "text").contents() for rows in ([2, 3], [0, 1]))
    assert short.tolist() == [int(long[0]), -1]
    assert int(long[0]) != int(long[1])


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_stops_after_so_many_epochs(patience, tmp_path, capsys):
    losses = [3.0, 2.0, 2.5, 2.0, 1.0, 0.5]
    changes = {"epochs": 6, "patience": patience}
    result = fit(Scripted(losses), rows(18), rows(10), settings(**changes), tmp_path / "run")
    assert (result.best_epoch, result.steps) == (2, 4 * (2 + patience))
    reason = f"the validation loss of epoch 2 was not improved in {patience} epochs"
    assert f"stopped after epoch {2 + patience} of 6: {reason}" in capsys.readouterr().err
    assert [one["reason"] for one in read_log(tmp_path / "run", "stop")] == [reason]
    assert (tmp_path / "run" / "last" / "weights.json").exists()
    idle = Scripted()
    again = fit(idle, rows(18), rows(10), settings(**changes), tmp_path / "run", progress=False)
    assert again == result and idle.batches == []


def test_patience_counts_on_after_a_restart(tmp_path):
    made = settings(epochs=6, patience=2)
    stopped(lambda: fit(Scripted([3.0, 2.0, 2.5]), rows(18), rows(10), made, tmp_path, progress=False), at=14)
    rest = Scripted([2.0, 1.0])
    result = fit(rest, rows(18), rows(10), made, tmp_path, progress=False)
    assert (result.best_epoch, result.steps) == (2, 16)
