"""Weights of fused embeddings: fitted on validation rows, they find what the best of the parts and their mean finds."""

import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.models import MultimodalModel
from confu.nn.encoders import MLPEncoder
from confu.plan import Subset, confu_plan
from confu.training.stacking import FEWEST, fit_stacking

NAMES, DIM = ("x", "y", "z"), 16


def net():
    return MultimodalModel(confu_plan(NAMES), {name: MLPEncoder(2, [4], 4) for name in NAMES}, dim=DIM, fusion_dim=4)


def table(rows=200, **noise):
    """Embeddings in which x+y and its parts each see z with some noise; all others are random."""
    generator = torch.Generator().manual_seed(0)
    drawn = {str(subset): torch.randn(rows, DIM, generator=generator) for subset in confu_plan(NAMES).subsets}
    for subset, strength in noise.items():
        drawn[subset.replace("_", "+")] = drawn["z"] + strength * drawn[subset.replace("_", "+")]
    vectors = {Subset.parse(name): normalize(one, dim=1) for name, one in drawn.items()}
    return EmbeddingTable([str(row) for row in range(rows)], vectors)


def mrr(query, target):
    scores = query @ target.T
    return (1 / (scores >= scores.diag()[:, None]).sum(1)).mean()


@pytest.mark.parametrize(
    ("noise", "heaviest"), [({"x_y": 0.5}, 0), ({"x": 0.5}, 1), ({"y": 0.5}, 2), ({"x_y": 5.0, "x": 3.0, "y": 0.5}, 2)]
)
def test_what_finds_the_target_has_the_weight(noise, heaviest):
    weights = fit_stacking(net(), table(**noise))["x+y"]
    assert len(weights) == 3 and sum(weights) == pytest.approx(1) and min(weights) > 0
    assert weights[heaviest] > 0.7


@pytest.mark.parametrize("noise", [{"x_y": 2.0, "x": 1.5, "y": 1.5}, {"x_y": 2.0, "x": 1.0}, {"x_y": 1.0, "y": 2.0}])
def test_the_weighted_sum_finds_no_less_on_other_rows(noise):
    both = table(400, **noise)
    fitted, other = both.select(torch.arange(200)), both.select(torch.arange(200, 400))
    parts = [other[name] for name in ("x+y", "x", "y")]
    found = mrr(normalize(sum(w * z for w, z in zip(fit_stacking(net(), fitted)["x+y"], parts)), dim=1), other["z"])
    for single in (*parts, normalize(parts[1] + parts[2], dim=1)):
        assert found > mrr(single, other["z"]) - 0.02


def test_equal_targets_are_no_negatives():
    one = table(x_y=0.5, x=0.5)
    twice = EmbeddingTable([f"{row}" for row in range(400)], {key: torch.cat([z, z]) for key, z in one.vectors.items()})
    numbers = torch.arange(200).repeat(2)
    weights = fit_stacking(net(), twice, dict.fromkeys(NAMES, numbers))["x+y"]
    assert weights == pytest.approx(fit_stacking(net(), one)["x+y"], abs=0.01)


def test_few_rows_and_other_scores_leave_fused_vectors_alone():
    assert fit_stacking(net(), table(FEWEST - 1)) == {}
    other = net()
    other.score = "volume"
    assert fit_stacking(other, table()) == {}
