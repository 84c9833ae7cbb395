"""Tables of embeddings whose cosines are, up to a scale, the best score of a distribution of known information."""

import math

import numpy as np
import torch

from confu.embeddings import EmbeddingTable
from confu.plan import Subset

Score = tuple[np.ndarray, np.ndarray]
"""Two factors, (n, d) each: the score of every query with every target is their product."""


def table_of(scores: dict[str, Score], target: str) -> EmbeddingTable:
    """Unit vectors whose cosine of query and target is proportional to the score of the query."""
    n, count = len(next(iter(scores.values()))[0]), len(scores)
    vectors, sought = {}, []
    widths = [factors[0].shape[1] + 2 for factors in scores.values()]
    for place, (query, factors) in enumerate(scores.items()):
        left, right = (factor / max(np.linalg.norm(factor, axis=1).max(), 1e-9) for factor in factors)
        rest_left, rest_right = (np.sqrt(np.maximum(0, 1 - (side**2).sum(1)))[:, None] for side in (left, right))
        none = np.zeros((n, 1))
        padding = [np.zeros((n, sum(widths[:place]))), np.zeros((n, sum(widths[place + 1 :])))]
        vectors[query] = np.hstack([padding[0], left, rest_left, none, padding[1]])
        sought.append(np.hstack([right, none, rest_right]) / math.sqrt(count))
    vectors[target] = np.hstack(sought)
    embeddings = {Subset.parse(name): torch.from_numpy(rows).float() for name, rows in vectors.items()}
    return EmbeddingTable([f"r{i}" for i in range(n)], embeddings)


def gaussian_score(x: np.ndarray, y: np.ndarray, rho: float) -> Score:
    """ln p(x, y) / p(x) p(y), but for a constant, of standard normal numbers, correlated by rho in each dimension."""
    rest, one = 1 - rho**2, np.ones((len(x), 1))
    squares = [-(rho**2) * (side**2).sum(1, keepdims=True) / (2 * rest) for side in (x, y)]
    return np.hstack([x * rho / rest, one, squares[0]]), np.hstack([y, squares[1], one])


def gaussians(n: int, dim: int, first: float, second: float, seed: int = 0) -> tuple[EmbeddingTable, dict[str, float]]:
    """c is a sum of a, b and noise; a and b tell so many nats of it, each alone. Also what each query tells."""
    random = np.random.default_rng(seed)
    a, b, noise = random.standard_normal((3, n, dim))
    weights = [math.sqrt(1 - math.exp(-2 * nats / dim)) for nats in (first, second)]
    both = math.hypot(*weights)
    signal = weights[0] * a + weights[1] * b
    c = signal + math.sqrt(1 - both**2) * noise
    scores = {
        "a": gaussian_score(a, c, weights[0]),
        "b": gaussian_score(b, c, weights[1]),
        "a+b": gaussian_score(signal / both, c, both),
    }
    return table_of(scores, "c"), {"a": first, "b": second, "a+b": -0.5 * dim * math.log(1 - both**2)}


def xor(n: int, p: float, bits: int = 3, seed: int = 0) -> tuple[EmbeddingTable, dict[str, float]]:
    """x3 = x1 xor x2 with the probability p, else x1; x2 is sought. What x1, x3 and both tell, by enumeration."""
    codes = 2**bits
    joint = np.zeros((codes, codes, codes))
    for first in range(codes):
        for second in range(codes):
            joint[first, second, first ^ second] += p / codes**2
            joint[first, second, first] += (1 - p) / codes**2
    drawn = np.random.default_rng(seed).choice(joint.size, size=n, p=joint.ravel())
    x1, x2, x3 = np.unravel_index(drawn, joint.shape)
    by_query = {
        "x1": (joint.sum(2), x1),
        "x3": (joint.sum(0).T, x3),
        "x1+x3": (joint.transpose(0, 2, 1).reshape(codes**2, codes), codes * x1 + x3),
    }
    scores, truth = {}, {}
    for query, (pairs, asked) in by_query.items():
        apart = pairs.sum(1, keepdims=True) * pairs.sum(0, keepdims=True)
        ratio = np.divide(pairs, apart, out=np.ones_like(pairs), where=apart > 0)
        logs = np.log(np.maximum(ratio, 1e-6))
        truth[query] = float((pairs * logs).sum())
        left, sizes, right = np.linalg.svd(logs, full_matrices=False)
        scores[query] = (left * np.sqrt(sizes))[asked], (right.T * np.sqrt(sizes))[x2]
    return table_of(scores, "x2"), truth
