"""GRAM's and TRIANGLE's contrast against loops, and against the way their released code forms them."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from confu.losses import gram_contrast, info_nce, triangle_contrast
from losses import parts
from losses.parts import numbers, tau
from oracles import anchor_contrast_oracle, gram_score_oracle, triangle_score_oracle

# Name, function, its score of one anchor with one tuple, numbers of others.
CASES = [
    ("gram", gram_contrast, gram_score_oracle, (1, 2, 3, 4)),
    ("triangle", triangle_contrast, triangle_score_oracle("published"), (2,)),
    ("triangle released", partial(triangle_contrast, formula="released"), triangle_score_oracle("released"), (2,)),
]
CASES_OF_ONE_SIZE = [pytest.param(*case[1:3], count, id=f"{case[0]} {count}") for case in CASES for count in case[3]]
CONTRASTS = [pytest.param(case[1], id=case[0]) for case in CASES]


def leaves(others, rows=4, dim=6, seed=0):
    return parts.leaves(1 + others, rows, dim, seed)


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize(("contrast", "score", "others"), CASES_OF_ONE_SIZE)
def test_value_and_every_gradient_are_those_of_the_loops(contrast, score, others, options):
    rows = 4 if others < 4 else 3
    fast, fast_tau, slow, slow_tau = leaves(others, rows), tau(), leaves(others, rows), tau()
    value = contrast(fast[0], fast[1:], fast_tau, **options)
    anchor, *rest = numbers(slow)
    expected = anchor_contrast_oracle(score, anchor, rest, slow_tau, **options)
    torch.testing.assert_close(value, expected, atol=1e-11, rtol=0)
    plain = [one.tolist() for one in slow]
    assert anchor_contrast_oracle(score, plain[0], plain[1:], 0.2, **options) == pytest.approx(value.item(), abs=1e-11)
    value.backward()
    expected.backward()
    for ours, theirs in zip([*fast, fast_tau], [*slow, slow_tau]):
        assert theirs.grad.abs().max() > 1e-3
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-10, rtol=1e-10)


@settings(max_examples=25)
@given(
    case=st.sampled_from(CASES), others=st.integers(1, 3), rows=st.integers(2, 5), dim=st.integers(4, 7),
    temperature=st.floats(0.02, 2.0), symmetric=st.booleans(), smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_value_is_that_of_the_loops_for_any_size(case, others, rows, dim, temperature, symmetric, smoothing, seed):
    _, contrast, score, sizes = case
    anchor, *rest = leaves(others if others in sizes else 2, rows, dim, seed)
    options = {"symmetric": symmetric, "label_smoothing": smoothing}
    plain = anchor.tolist(), [one.tolist() for one in rest]
    expected = anchor_contrast_oracle(score, *plain, temperature, **options)
    assert contrast(anchor, rest, temperature, **options).item() == pytest.approx(expected, abs=1e-7)


def both_ways(distances, temperature):
    """The last lines of both repositories' examples."""
    targets = torch.arange(len(distances))
    scores = -distances / temperature
    return (cross_entropy(scores, targets, label_smoothing=0.1)
            + cross_entropy(scores.T, targets, label_smoothing=0.1)) / 2  # fmt: skip


def test_triangle_is_what_its_released_code_computes():
    """There the edges of every triangle are formed: two tensors of (rows, rows, dim)."""
    ours, theirs = leaves(2, rows=7), leaves(2, rows=7)
    x, y, z = theirs
    u, v = x[:, None] - y[None], x[:, None] - z[None]
    areas = (u.square().sum(dim=2) * v.square().sum(dim=2) - (u * v).sum(dim=2).square()) / 2
    expected = both_ways(areas, 0.07)
    value = triangle_contrast(ours[0], ours[1:], 0.07, formula="released", label_smoothing=0.1)
    torch.testing.assert_close(value, expected, atol=1e-11, rtol=0)
    for mine, released in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs)):
        torch.testing.assert_close(mine, released, atol=1e-10, rtol=0)


@pytest.mark.parametrize("others", [1, 2, 3, 4, 5])
def test_gram_is_what_its_released_code_computes(others):
    """There the determinant of every pair's Gram matrix is torch's."""
    ours, theirs = leaves(others, rows=5, dim=9), leaves(others, rows=5, dim=9)
    anchor, *rest = theirs
    pairs = [[torch.stack([anchor[i], *(one[j] for one in rest)]) for j in range(5)] for i in range(5)]
    grams = torch.stack([torch.stack([vectors @ vectors.T for vectors in row]) for row in pairs])
    expected = both_ways(torch.linalg.det(grams).abs().sqrt(), 0.07)
    value = gram_contrast(ours[0], ours[1:], 0.07, label_smoothing=0.1)
    torch.testing.assert_close(value, expected, atol=1e-10, rtol=0)
    for mine, released in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs)):
        torch.testing.assert_close(mine, released, atol=1e-9, rtol=0)


def test_gram_of_two_contrasts_sines_as_info_nce_does_cosines():
    """-sin ranks as |cos| does: opposite vectors match as equal ones do."""
    z = torch.eye(4, dtype=torch.float64)
    assert gram_contrast(z, [-z]).item() == pytest.approx(gram_contrast(z, [z]).item())
    assert gram_contrast(z, [z], 1.0).item() == pytest.approx(info_nce(z, z, 1.0).item(), abs=1e-4)
    assert info_nce(z, -z).item() > 10


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_rows_the_space_and_the_others_may_be_reordered(contrast):
    anchor, *others = leaves(2, rows=6)
    value = contrast(anchor, others)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    torch.testing.assert_close(contrast(anchor[order], [one[order] for one in others]), value)
    torch.testing.assert_close(contrast(anchor, others[::-1]), value)
    rotation, _ = torch.linalg.qr(leaves(0, 6, 6, seed=4)[0].detach())
    torch.testing.assert_close(contrast(anchor @ rotation, [one @ rotation for one in others]), value)
    assert abs(contrast(anchor[order], others) - value) > 1e-3  # rows that do not belong together


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_collapsed_embeddings_cost_log_n(contrast):
    same = normalize(torch.ones(16, 8), dim=1)
    assert contrast(same, [same, same]).item() == pytest.approx(math.log(16), abs=1e-5)
    # Equal anchor and second leave nothing, whatever the third; a stranger's pair spans a volume and an area.
    x, y = torch.eye(8)[:4], torch.eye(8)[4:]
    assert 0 <= contrast(x, [x, y], 0.01).item() < 1e-3
    assert contrast(x.roll(1, 0), [x, y], 0.01).item() > 10


def test_bad_arguments_are_refused(as_users_run):
    x, y, z = (one.detach() for one in leaves(2))
    for case in CONTRASTS:
        (contrast,) = case.values
        with pytest.raises(ValueError, match=r"the same rows, one tuple each; got 3 and 4"):
            contrast(x[:3], [y, z], symmetric=False)
        with pytest.raises(ValueError, match="each side must be one or more tensors"):
            contrast(x, [y, z[:3]])
        with pytest.raises(ValueError, match="the same dim"):
            contrast(x, [y, z[:, :2]])
        with pytest.raises(ValueError, match="a negative for each row, needs at least 2 rows; got 1"):
            contrast(x[:1], [y[:1], z[:1]])
        for temperature in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="temperature must be positive, got"):
                contrast(x, [y, z], temperature)
    with pytest.raises(ValueError, match="exactly three vectors; got 1 on the query's side and 1"):
        triangle_contrast(x, [y])
    with pytest.raises(ValueError, match="formula must be 'published'"):
        triangle_contrast(x, [y, z], formula="square")
