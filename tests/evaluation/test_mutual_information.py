"""Information in nats against distributions whose information is known, and from a small model that is trained."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import confu
from confu.embeddings import EmbeddingTable
from confu.evaluation.mutual_information import FusedInformation, fit_scale, gallery_values, information
from confu.plan import Subset
from evaluation.known_information import gaussian_score, gaussians, table_of, xor


def fused_of(table, target, fit=None) -> FusedInformation:
    (one,) = (one for one in information(table, fit).fused if one.together.target == target)
    return one


def check_truth(found, truth):
    """Within a tenth below half the cap, and what so many rows leave to chance: 4 standard errors."""
    assert truth < found.cap / 2
    chance = (found.high - found.low) / (2 * 1.96)
    assert abs(found.nats - truth) <= 0.1 * truth + 4 * chance + 0.01
    assert chance < 0.1


def loop_values(scores, scale):
    """The definition, a pair at a time."""
    n = len(scores)
    for i in range(n):
        rows = math.log(math.fsum(math.exp(scale * scores[i][j]) for j in range(n)) / n)
        columns = math.log(math.fsum(math.exp(scale * scores[j][i]) for j in range(n)) / n)
        yield scale * scores[i][i] - (rows + columns) / 2


def test_the_bound_is_that_of_its_definition():
    scores = torch.from_numpy(np.random.default_rng(0).standard_normal((7, 7)))
    assert gallery_values(scores, 1.7).tolist() == pytest.approx(list(loop_values(scores.tolist(), 1.7)))
    halves = torch.tensor([0, 2, 5]), torch.tensor([1, 3, 4, 6])
    found = gallery_values(scores, 1.7, halves)
    for rows in halves:
        part = scores[rows][:, rows].tolist()
        assert found[rows].tolist() == pytest.approx(list(loop_values(part, 1.7)))


def test_the_scale_is_where_the_bound_is_largest():
    random = np.random.default_rng(1)
    scores = torch.from_numpy(0.1 * random.standard_normal((40, 40)) + 0.15 * np.eye(40))
    scale = fit_scale(scores)
    values = {factor: float(gallery_values(scores, factor * scale).mean()) for factor in (0.9, 1.0, 1.1)}
    assert values[1.0] > max(values[0.9], values[1.1])
    assert fit_scale(-scores) == 0.0


@pytest.mark.parametrize(("dim", "first", "second"), [(1, 0.2, 0.3), (4, 0.5, 0.5), (8, 1.0, 0.7), (16, 1.0, 1.5)])
def test_gaussians_tell_what_is_given(dim, first, second):
    table, truth = gaussians(700, dim, first, second)
    found = fused_of(table, "c")
    for query, one in {**found.parts, "a+b": found.together}.items():
        check_truth(one, truth[query])
    gain, low, high = found.gain
    expected = truth["a+b"] - max(first, second)
    assert abs(gain - expected) <= 0.1 * expected + (high - low)
    less, most = found.only_together
    assert less <= expected * 1.1 + (high - low) and most == gain
    assert found.co_information[0] == pytest.approx(found.parts["a"].nats + found.parts["b"].nats - found.together.nats)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_xor_tells_what_is_counted(p):
    table, truth = xor(1200, p)
    found = fused_of(table.select(torch.arange(700)), "x2", fit=table.select(torch.arange(700, 1200)))
    assert truth["x1"] == pytest.approx(0.0, abs=1e-12) and truth["x3"] == pytest.approx(0.0, abs=1e-12)
    check_truth(found.together, truth["x1+x3"])
    assert max(abs(part.nats) for part in found.parts.values()) < 0.01
    # Nothing is told by one of them: all of it is told by both together, and nothing alike.
    assert found.only_together == pytest.approx((found.together.nats,) * 2, abs=0.02)
    assert found.alike == pytest.approx((0.0, 0.0), abs=0.02)
    if p == 1:
        assert found.together.nats == pytest.approx(math.log(8), rel=0.02)


def test_a_copy_adds_nothing_and_tells_alike():
    random = np.random.default_rng(2)
    rho = math.sqrt(1 - math.exp(-2 * 1.0 / 4))
    x, noise = random.standard_normal((2, 1200, 4))
    score = gaussian_score(x, rho * x + math.sqrt(1 - rho**2) * noise, rho)
    found = fused_of(table_of({"a": score, "b": score, "a+b": score}, "c"), "c")
    check_truth(found.together, 1.0)
    assert found.gain == pytest.approx((0.0, 0.0, 0.0), abs=1e-4)
    assert found.alike == pytest.approx((found.together.nats,) * 2, abs=1e-3)
    assert found.only_together == pytest.approx((0.0, 0.0), abs=1e-3)


def test_what_the_finite_gallery_hides_is_extrapolated():
    found = [fused_of(xor(60, 1.0, seed=seed)[0], "x2").together for seed in range(8)]
    assert all(one.bound < one.nats and one.gallery == one.rows == 60 for one in found)
    bound, nats = (np.mean([getattr(one, name) for one in found]) - math.log(8) for name in ("bound", "nats"))
    assert bound == pytest.approx(
        -7 / 120, abs=0.02
    )  # - a / N, where a pair is 8 times as likely as by chance, or never
    assert abs(nats) < 0.3 * abs(bound)


def test_large_tables_are_parted_into_galleries():
    table, _ = gaussians(600, 4, 0.6, 0.5)
    (whole,) = (one for one in information(table).pairs if one.query == "a" and one.target == "c")
    (parted,) = (one for one in information(table, max_gallery=250).pairs if one.query == "a" and one.target == "c")
    assert (parted.gallery, parted.rows, whole.gallery) == (200, 600, 600)
    assert parted.nats == pytest.approx(whole.nats, abs=0.05)


def test_either_side_tells_as_much_and_the_scale_of_scores_is_free():
    table, _ = gaussians(300, 4, 0.6, 0.5)
    a, c = table["a"], table["c"]
    plain = EmbeddingTable(table.ids, {Subset("a"): a, Subset("c"): c})
    turned = EmbeddingTable(table.ids, {Subset("a"): c, Subset("c"): a})
    none = torch.zeros(300, 1)
    shrunk = EmbeddingTable(
        table.ids, {Subset("a"): torch.cat([0.6 * a, 0.8 + none, none], 1), Subset("c"): torch.cat([c, none, none], 1)}
    )
    values = [information(one).pairs[0] for one in (plain, turned, shrunk)]
    assert values[1].nats == pytest.approx(values[0].nats, abs=1e-4)
    assert values[2].nats == pytest.approx(values[0].nats, abs=1e-2)


def test_a_worse_fused_embedding_is_said():
    table, _ = gaussians(400, 8, 1.0, 0.7)
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal(table["a"].shape)).float()
    worse = EmbeddingTable(table.ids, {**table.vectors, Subset("a", "b"): normalize(table["a+b"] + noise, dim=1)})
    found = fused_of(worse, "c")
    assert found.gain[2] < 0 and found.only_together == (0.0, 0.0)
    assert (
        "a and b together tell 0." in found.sentence()
        and "nats less of c than the better of the two (a" in found.sentence()
    )


def test_the_gain_is_said_with_its_interval():
    table, _ = gaussians(600, 8, 1.0, 0.7)
    text = fused_of(table, "c").sentence()
    assert "a and b together tell" in text and "nats more of c than the better of the two (a, " in text
    assert "95 % interval" in text


def test_gaps_compare_the_same_rows():
    table, _ = gaussians(200, 4, 0.6, 0.5)
    has_b = torch.arange(200) % 4 > 0
    gappy = EmbeddingTable(table.ids, table.vectors, {Subset("b"): has_b, Subset("a", "b"): has_b})
    account = information(gappy)
    by_pair = {(one.query, one.target): one.rows for one in account.pairs}
    assert by_pair == {("a", "b"): 150, ("a", "c"): 200, ("b", "c"): 150}
    found = fused_of(gappy, "c")
    assert {found.together.rows, *(part.rows for part in found.parts.values())} == {150}
    assert found.parts["a"].nats == pytest.approx(fused_of(gappy.select(has_b), "c").parts["a"].nats, abs=0.01)


def test_few_rows_are_said_and_none_are_measured_on_three():
    table, _ = gaussians(60, 4, 0.6, 0.5)
    assert information(table).notes == []
    few = information(table.select(torch.arange(20)))
    assert len(few.notes) == 1 and "that of a -> b on 20: below 50 rows" in few.notes[0]
    assert len(few.pairs) == 3 and few.sentences()[-1] == few.notes[0]
    nothing = information(table.select(torch.arange(3)))
    assert nothing.pairs == nothing.fused == [] and len(nothing.notes) == 1


def test_embeddings_that_are_not_finite_are_refused():
    table, _ = gaussians(60, 4, 0.6, 0.5)
    table.vectors[Subset("b")][7] = math.nan
    with pytest.raises(ValueError, match=r"the embeddings of b must be finite.*row 7"):
        information(table)
    with pytest.raises(ValueError, match="max_gallery must be at least 8 rows"):
        information(table, max_gallery=4)


def test_scores_of_all_modalities_are_told_as_they_can_be_asked():
    random = np.random.default_rng(4)
    x, y = (torch.from_numpy(random.choice([-1.0, 1.0], (200, 64))).float() / 8 for _ in range(2))
    vectors = {Subset("x"): x, Subset("y"): y, Subset("z"): 8 * x * y}
    symile = EmbeddingTable([f"r{i}" for i in range(200)], vectors, score="multilinear")
    account = information(symile)
    assert account.fused == [] and {one.query for one in account.pairs} == {"x+y", "x+z", "y+z"}
    assert all(one.bound == pytest.approx(math.log(200), abs=0.01) for one in account.pairs)
    gram = EmbeddingTable(symile.ids, vectors, score="volume")
    account = information(gram)
    assert len(account.pairs) == len(account.fused) == 3 and all(one.mean is None for one in account.fused)


def test_models_without_fusion_are_told_by_the_mean():
    table, _ = gaussians(200, 4, 0.6, 0.5)
    singles = EmbeddingTable(table.ids, {name: rows for name, rows in table.vectors.items() if not name.is_fused})
    found = fused_of(singles, "c")
    assert found.together.query == "mean(a, b)" and found.mean == found.together
    assert found.sentence().startswith("the mean of a and b tells")


def test_rows_and_json_hold_every_number():
    table, _ = gaussians(120, 4, 0.6, 0.5)
    account = confu.information(table, confidence=0.9)
    rows = account.to_rows()
    names = {(row.metric, row.query, row.target) for row in rows}
    assert len(names) == len(rows) and ("information gain", "a+b", "c") in names
    assert {row.confidence for row in rows} == {0.9}
    assert all(row.low <= row.value <= row.high for row in rows)
    data = account.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["sentences"] == account.sentences() and len(data["fused"]) == 3


def test_a_trained_model_tells_what_xor_holds():
    """Three bits: nothing by pairs, ln 8 by two of three."""
    random = np.random.default_rng(0)
    x1, x2 = random.integers(0, 2, (2, 2600, 3))
    columns = {"x1": x1, "x2": x2, "x3": x1 ^ x2}
    inputs = {name: torch.from_numpy(values.astype(np.float32)) for name, values in columns.items()}
    plan = confu.confu_plan(tuple(inputs))
    torch.manual_seed(0)
    encoders = {
        name: confu.build_encoder({"kind": "mlp", "in_dim": 3, "hidden_dims": [32], "out_dim": 32}) for name in inputs
    }
    model = confu.MultimodalModel(plan, encoders, dim=16, fusion_dim=64)
    loss, optimizer = confu.ConFuLoss(plan), torch.optim.AdamW(model.parameters(), lr=3e-3)

    def batch(rows):
        n = torch.arange(len(rows))
        return confu.Batch(
            {name: confu.Inputs(values[rows], n) for name, values in inputs.items()}, [str(i) for i in rows]
        )

    for step in range(200):
        optimizer.zero_grad()
        loss(model(batch(torch.arange(128) + 128 * (step % 15)))).total.backward()
        optimizer.step()
    table = confu.embed(model, [batch(torch.arange(2000, 2600))], plan.subsets)
    account = confu.information(table)
    for one in account.fused:
        assert one.together.nats == pytest.approx(math.log(8), rel=0.1)
        assert one.gain[1] > 1.8 and one.only_together[0] > 1.8
    assert all(abs(pair.nats) < 0.05 for pair in account.pairs)
