"""The ways of comparing, one query and one target at a time, from their definitions."""

import torch

from oracles import multilinear_oracle, squared_area_oracle, squared_volume_oracle


def unit(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors with elements +-1/sqrt(dim), dim a power of four: all scores of them are exact in any order of
    addition, so that two either tie or are far apart, on every machine."""
    assert dim in (1, 4, 16, 64, 256)
    signs = torch.randint(0, 2, (n, dim), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return signs.float() / dim**0.5


def score_oracle(score, query, target):
    """Of one query with one target, each a list of vectors (lists of numbers); higher is more alike."""
    vectors = [*query, *target]
    if score == "volume":
        return -squared_volume_oracle(vectors)
    return -squared_area_oracle(*vectors) if score == "area" else multilinear_oracle(vectors)


def scores_oracle(score, queries, targets):
    """(n, m) as lists, from one tensor a modality."""
    queries, targets = [one.double().tolist() for one in queries], [one.double().tolist() for one in targets]
    return [[score_oracle(score, query, target) for target in zip(*targets)] for query in zip(*queries)]


def score_ranks_oracle(score, queries, targets):
    """How many targets score better than a query's own and how many tie."""
    better, tied = [], []
    for i, row in enumerate(scores_oracle(score, queries, targets)):
        width = 1e-6 if score == "cosine" else max(1e-12, 1e-6 * max(map(abs, row)))
        better.append(sum(one > row[i] + width for one in row))
        tied.append(sum(abs(one - row[i]) <= width for one in row))
    return better, tied
