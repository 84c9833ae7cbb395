"""Multilinear products, volumes and areas: against the definitions one number at a time, and against geometry."""

import math
from itertools import permutations

import pytest
import torch

from confu.losses import gram_volumes, multilinear_scores, squared_areas, squared_volumes, triangle_areas
from losses.parts import unit_rows
from oracles import multilinear_oracle, squared_area_oracle, squared_volume_oracle

EYE = torch.eye(3, dtype=torch.float64)
E1, E2, E3 = EYE[:1], EYE[1:2], EYE[2:]
SCORES = [multilinear_scores, squared_volumes, gram_volumes, squared_areas, triangle_areas]
# How many of the modalities ask, and how many are sought.
SPLITS = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3), (1, 4), (3, 3), (5, 1)]
THREE = [(1, 2), (2, 1)]


def vectors(count, rows, dim=7, seed=0):
    return unit_rows(count, rows, dim, seed)


def two_sides(split, n=4, m=3, dim=7, unit=True):
    queries, targets = vectors(split[0], n, dim, seed=1), vectors(split[1], m, dim, seed=2)
    # Vectors of other lengths must not be taken for unit vectors.
    return (queries, targets) if unit else ([1.7 * one for one in queries], [0.6 * one for one in targets])


def splits_of(score):
    return THREE if score in (squared_areas, triangle_areas) else SPLITS


def one_at_a_time(oracle, queries, targets):
    n, m = len(queries[0]), len(targets[0])
    rows = [[oracle(*([one[i].tolist() for one in queries] + [one[j].tolist() for one in targets]))
             for j in range(m)] for i in range(n)]  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "any length"])
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_products_and_volumes_follow_the_definition(split, unit):
    sides = two_sides(split, unit=unit)
    expected = one_at_a_time(lambda *all: multilinear_oracle(all), *sides)
    torch.testing.assert_close(multilinear_scores(*sides), expected, atol=1e-12, rtol=1e-12)
    expected = one_at_a_time(lambda *all: squared_volume_oracle(all), *sides)
    torch.testing.assert_close(squared_volumes(*sides), expected, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(gram_volumes(*sides), expected.sqrt(), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "any length"])
@pytest.mark.parametrize("split", THREE, ids=str)
def test_areas_are_those_of_the_definition(split, unit):
    sides = two_sides(split, unit=unit)
    expected = one_at_a_time(squared_area_oracle, *sides)
    torch.testing.assert_close(squared_areas(*sides), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(triangle_areas(*sides), expected.sqrt() / 2, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(triangle_areas(*sides, "released"), expected / 2, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_the_squared_volume_is_torchs_determinant(count):
    all_of_them = vectors(count, 5, dim=8, seed=count)
    together = torch.stack(all_of_them, dim=1)  # (5, count, 8)
    expected = torch.linalg.det(together @ together.mT)
    for asking in range(1, count):
        found = squared_volumes(all_of_them[:asking], all_of_them[asking:]).diagonal()
        torch.testing.assert_close(found, expected, atol=1e-13, rtol=1e-10)
        # In float32 the polynomial loses about a digit for every two more vectors.
        single = [one.float() for one in all_of_them]
        found = squared_volumes(single[:asking], single[asking:]).diagonal()
        assert (found - expected).abs().max() < 2e-7 * 2**count


def test_the_area_is_half_the_length_of_the_cross_product():
    x, y, z = vectors(3, 6, dim=3)
    expected = torch.linalg.cross(y - x, z - x).norm(dim=1) / 2
    torch.testing.assert_close(triangle_areas([x], [y, z]).diagonal(), expected, atol=1e-12, rtol=1e-12)


def test_the_volume_is_the_triple_product():
    x, y, z = vectors(3, 6, dim=3)
    expected = (torch.linalg.cross(x, y) * z).sum(dim=1).abs()
    torch.testing.assert_close(gram_volumes([x], [y, z]).diagonal(), expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_rows_and_roles_may_change_places(score):
    for split in splits_of(score):
        queries, targets = two_sides(split)
        scores = score(queries, targets)
        torch.testing.assert_close(score(targets, queries), scores.T)
        i, j = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
        torch.testing.assert_close(score([q[i] for q in queries], [t[j] for t in targets]), scores[i][:, j])
        for order in permutations(targets):
            torch.testing.assert_close(score(queries, list(order)), scores)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_rotation_changes_only_the_multilinear_product(score):
    rotation, _ = torch.linalg.qr(vectors(1, 7)[0])
    for split in splits_of(score):
        queries, targets = two_sides(split)
        turned = score([q @ rotation for q in queries], [t @ rotation for t in targets])
        if score is multilinear_scores and sum(split) > 2:
            assert (turned - score(queries, targets)).abs().max() > 0.01
        else:
            torch.testing.assert_close(turned, score(queries, targets))


def test_it_does_not_matter_which_of_three_asks():
    x, y, z = vectors(3, 5)
    for score in (squared_volumes, squared_areas):
        own = score([x], [y, z]).diagonal()
        torch.testing.assert_close(score([y], [x, z]).diagonal(), own)
        torch.testing.assert_close(score([z, x], [y]).diagonal(), own)


def test_scale_and_place():
    (x,), (y, z) = two_sides((1, 2))
    torch.testing.assert_close(multilinear_scores([3 * x], [y, 2 * z]), 6 * multilinear_scores([x], [y, z]))
    torch.testing.assert_close(gram_volumes([3 * x], [y, 2 * z]), 6 * gram_volumes([x], [y, z]))
    torch.testing.assert_close(triangle_areas([3 * x], [3 * y, 3 * z]), 9 * triangle_areas([x], [y, z]))
    # A triangle may be moved; the volume is measured from the origin.
    moved = [one + 0.3 for one in (x, y, z)]
    torch.testing.assert_close(triangle_areas(moved[:1], moved[1:]), triangle_areas([x], [y, z]))
    assert (gram_volumes(moved[:1], moved[1:]) - gram_volumes([x], [y, z])).abs().max() > 0.01


def test_known_values():
    assert multilinear_scores([E1], [E1, E1]).item() == 1
    assert multilinear_scores([E1], [E1, -E1]).item() == -1
    assert multilinear_scores([E1], [E1, E2]).item() == 0
    assert squared_volumes([E1], [E2, E3]).item() == 1
    assert squared_volumes([E1], [-E1]).item() == 0  # opposite is as good as equal
    assert squared_volumes([E1], [E2, (E1 + E2) / 2**0.5]).item() == pytest.approx(0, abs=1e-15)  # one plane
    assert squared_areas([E1], [E2, E3]).item() == pytest.approx(3)  # sides sqrt 2: area sqrt(3) / 2
    assert triangle_areas([E1], [E2, E3]).item() == pytest.approx(math.sqrt(3) / 2)
    assert triangle_areas([E1], [E2, E3], "released").item() == pytest.approx(1.5)
    assert squared_areas([E1], [E1, E2]).item() == 0  # two equal ends leave no triangle, wherever the third is
    assert squared_areas([E1], [-E1, E2]).item() == 4
    assert squared_areas([E1], [-E1, torch.zeros_like(E1)]).item() == 0  # on a line


def test_degenerate_roots_stop_at_the_documented_floor():
    assert gram_volumes([E1], [E1, E2]).item() == pytest.approx(1e-4)
    assert triangle_areas([E1], [E1, E2]).item() == pytest.approx(0.5e-4)
    assert triangle_areas([E1], [E1, E2], "released").item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    queries, targets = two_sides((1, 2))
    queries, targets = [q.to(dtype) for q in queries], [t.to(dtype) for t in targets]
    for score in (squared_volumes, squared_areas, gram_volumes, triangle_areas):
        found = score(queries, targets)
        assert found.dtype == torch.float32
        exact = score([q.double() for q in queries], [t.double() for t in targets])
        assert (found - exact).abs().max() < 1e-5
    assert multilinear_scores(queries, targets).dtype == dtype


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_sides_that_do_not_fit_are_refused(score, as_users_run):
    x, y, z = vectors(3, 4)
    with pytest.raises(ValueError, match=r"each side must be one or more tensors .*; got queries \[\] and targets"):
        score([], [x])
    with pytest.raises(ValueError, match=r"of one number of rows; got queries .* and targets \[\(4, 7\), \(3, 7\)\]"):
        score([x], [y, z[:3]])
    with pytest.raises(ValueError, match=r"must be one or more tensors \(rows, dim\)"):
        score([x[0]], [y, z])
    with pytest.raises(ValueError, match=r"the same dim; got .*\(4, 6\).*Use one `dim` for every projection"):
        score([x], [y, z[:, :6]])


@pytest.mark.parametrize("split", [(1, 1), (2, 2), (1, 3), (3, 1)], ids=str)
def test_an_area_is_of_three(split):
    with pytest.raises(ValueError, match=rf"exactly three vectors; got {split[0]} on the query's side and {split[1]}"):
        squared_areas(*two_sides(split))


def test_an_unknown_formula_is_refused(as_users_run):
    with pytest.raises(ValueError, match=r"'published' \(with the root\) or 'released' \(without\); got 'heron'"):
        triangle_areas([E1], [E2, E3], "heron")
