"""Slow versions of what confu computes, written as loops from the definitions."""

import math
from itertools import permutations, product

import torch
from torch.nn.functional import normalize


def unit(n, dim, seed=0):
    """Random unit vectors (n, dim)."""
    return normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def recall_at_k_oracle(better, tied, k):
    """Count, for each place that the own target can take among those that tie, whether it is among the first k."""
    total = 0.0
    for before, equal in zip(better, tied):
        places = range(before + 1, before + equal + 1)
        total += sum(place <= k for place in places) / equal
    return total / len(better)


def zero_shot_oracle(queries, prompts, prompt_classes):
    """The class of the nearest normalised mean prompt, one query and one class at a time."""
    queries, prompts, prompt_classes = queries.tolist(), prompts.tolist(), prompt_classes.tolist()
    predictions = []
    for query in queries:
        scores = []
        for one in range(max(prompt_classes) + 1):
            mine = [prompt for prompt, of in zip(prompts, prompt_classes) if of == one]
            mean = [sum(numbers) / len(mine) for numbers in zip(*mine)]
            length = math.sqrt(sum(number**2 for number in mean))
            scores.append(sum(a * b / length for a, b in zip(query, mean)))
        predictions.append(max(range(len(scores)), key=scores.__getitem__))
    return predictions


# Losses of several modalities at once, each from its own paper. Vectors are lists of numbers: floats, or scalar tensors
# where a gradient is wanted, one operation at a time.


def _of(function, number):
    """`math.exp(x)` for a float, `x.exp()` for a scalar tensor."""
    return getattr(number, function)() if hasattr(number, function) else getattr(math, function)(number)


def _dot(left, right):
    return sum(a * b for a, b in zip(left, right))


def multilinear_oracle(vectors):
    """Symile: the sum over coordinates of the product of all vectors' numbers."""
    total = 0.0
    for numbers in zip(*vectors):
        together = 1.0
        for number in numbers:
            together = together * number
        total = total + together
    return total


def determinant_oracle(matrix):
    """By the first row's cofactors."""
    if len(matrix) == 1:
        return matrix[0][0]
    total = 0.0
    for column, number in enumerate(matrix[0]):
        minor = [row[:column] + row[column + 1 :] for row in matrix[1:]]
        total = total + (-1) ** column * number * determinant_oracle(minor)
    return total


def squared_volume_oracle(vectors):
    """GRAM: the determinant of the vectors' Gram matrix."""
    return determinant_oracle([[_dot(left, right) for right in vectors] for left in vectors])


def squared_area_oracle(x, y, z):
    """TRIANGLE: |u|^2 |v|^2 - (u . v)^2 with the edges u = x - y and v = x - z."""
    u, v = [a - b for a, b in zip(x, y)], [a - b for a, b in zip(x, z)]
    return _dot(u, u) * _dot(v, v) - _dot(u, v) ** 2


def gram_score_oracle(anchor, others):
    return -_of("sqrt", squared_volume_oracle([anchor, *others]))


def triangle_score_oracle(formula):
    def score(anchor, others):
        squared = squared_area_oracle(anchor, *others)
        return -squared / 2 if formula == "released" else -_of("sqrt", squared) / 2

    return score


def _cross_entropy(scores, own, label_smoothing):
    """-log softmax at the own target, a share of the weight spread over all targets alike."""
    log_sum = _of("log", sum(_of("exp", score) for score in scores))
    total = (1 - label_smoothing) * (log_sum - scores[own])
    for score in scores:
        total = total + label_smoothing / len(scores) * (log_sum - score)
    return total


def anchor_contrast_oracle(score, anchor, others, temperature, symmetric=True, label_smoothing=0.0):
    """GRAM and TRIANGLE: InfoNCE between each anchor and the tuples of the others' rows, one tuple at a time."""
    n, tuples = len(anchor), list(zip(*others))
    total = 0.0
    for i in range(n):
        forward = [score(anchor[i], tuples[j]) / temperature for j in range(n)]
        total = total + _cross_entropy(forward, i, label_smoothing)
        if symmetric:
            backward = [score(anchor[j], tuples[i]) / temperature for j in range(n)]
            total = total + _cross_entropy(backward, i, label_smoothing)
    return total / (2 * n if symmetric else n)


def symile_oracle(anchor, others, temperature, shuffles=None):
    """Symile: each anchor against its own tuple and others of any rows.

    `shuffles` holds, for each of the others, which of its rows stands at each place: N - 1 negatives, O(N). Without
    it every combination of rows is one, O(N^2) for three modalities.
    """
    n, total = len(anchor), 0.0
    for i in range(n):
        if shuffles is None:
            negatives = [rows for rows in product(range(n), repeat=len(others)) if rows != (i,) * len(others)]
        else:
            negatives = [[shuffle[j] for shuffle in shuffles] for j in range(n) if j != i]
        scores = [
            multilinear_oracle([anchor[i], *(other[row] for other, row in zip(others, rows))]) / temperature
            for rows in [(i,) * len(others), *negatives]
        ]
        total = total + _cross_entropy(scores, 0, 0.0)
    return total / n


def pair_kind_oracle(m, n, sides, present, contents, groups, options):
    """What row n is to row m in a term of two sides, each a text of the names of its modalities."""
    kinds = {options.same_group} if groups[m] == groups[n] >= 0 else set()
    for side in sides:
        if present[side][m] and present[side][n] and all(contents[x][m] == contents[x][n] >= 0 for x in side):
            kinds.add(options.equal_inputs)
    return next((kind for kind in ("positives", "excluded") if kind in kinds), "negatives")


def info_nce_oracle(queries, targets, temperature, asks, answers, kind, smoothing=0.0):
    """One direction of InfoNCE by its definition, one query at a time; `kind(m, n)` is what row n is to row m."""
    losses = []
    for m in torch.arange(len(queries))[asks].tolist():
        others = {n: kind(m, n) for n in range(len(targets)) if n != m and answers[n]}
        own = [m] if answers[m] else []
        positives = own + [n for n in others if others[n] == "positives"]
        candidates = own + [n for n in others if others[n] != "excluded"]
        if positives:
            scores = {n: queries[m] @ targets[n] / temperature for n in candidates}
            bottom = torch.stack(list(scores.values())).logsumexp(0)
            goal = torch.stack([scores[n] for n in positives]).mean()
            every = torch.stack(list(scores.values())).mean()
            losses.append(bottom - (1 - smoothing) * goal - smoothing * every)
    return torch.stack(losses).mean()


def first_right_place_oracle(scores, right):
    """Of one query, the chance of each place, from 1, of the first right target: every order of ties, one by one."""
    chances, orders = [0.0] * len(scores), list(permutations(range(len(scores))))
    for order in orders:
        ranking = sorted(range(len(scores)), key=lambda target: (-scores[target], order[target]))
        chances[next(place for place, target in enumerate(ranking) if right[target])] += 1 / len(orders)
    return chances
