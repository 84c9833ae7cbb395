"""Plans: counts against brute force, equality, printing, round trips and bad input."""

import json
from itertools import product

import pytest

from confu.plan import Plan, Subset, Term, confu_plan, disjoint_plan, pairwise_plan, target_plan

NAMES = ("image", "audio", "text", "depth", "touch", "smell", "taste")


def brute_force_pairs(num_modalities: int) -> set[frozenset[frozenset[int]]]:
    """Give every modality one of three places: left, right, or neither."""
    found = set()
    for places in product("LR-", repeat=num_modalities):
        left = frozenset(i for i, place in enumerate(places) if place == "L")
        right = frozenset(i for i, place in enumerate(places) if place == "R")
        if left and right:
            found.add(frozenset((left, right)))
    return found


@pytest.mark.parametrize("num_modalities", range(2, 8))
@pytest.mark.parametrize("max_order", [None, 1, 2])
@pytest.mark.parametrize("single_side", [False, True])
def test_disjoint_plan_counts_match_brute_force(num_modalities, max_order, single_side):
    names = NAMES[:num_modalities]
    expected = {
        pair
        for pair in brute_force_pairs(num_modalities)
        if (max_order is None or all(len(side) <= max_order for side in pair))
        and (not single_side or any(len(side) == 1 for side in pair))
    }
    plan = disjoint_plan(names, max_order=max_order, single_side=single_side)
    got = {frozenset(frozenset(names.index(n) for n in side) for side in (t.left, t.right)) for t in plan.terms}
    assert got == expected
    assert len(plan.terms) == len(expected)


def test_no_subset_beyond_the_order_is_built(monkeypatch):
    orders, build = [], Subset.__new__
    monkeypatch.setattr(Subset, "__new__", lambda cls, *names: orders.append(len(names)) or build(cls, *names))
    assert len(disjoint_plan(NAMES[:7], max_order=2).terms) == 21 + 7 * 15 + 3 * 35
    assert max(order for order in orders if order < 7) == 2  # the one of 7 is all of the plan's names


@pytest.mark.parametrize("num_modalities", range(2, 8))
def test_published_counts(num_modalities):
    names = NAMES[:num_modalities]
    m = num_modalities
    assert len(disjoint_plan(names).terms) == (3**m - 2 ** (m + 1) + 1) // 2
    assert len(disjoint_plan(names).fused_subsets) == 2**m - m - 2
    assert len(pairwise_plan(names).terms) == m * (m - 1) // 2
    assert len(target_plan(names, names[0]).terms) == 2 ** (m - 1) - 1


def test_confu_plan_is_equations_3_6_and_7():
    plan = confu_plan(NAMES[:3], fused_weight=0.3)
    weights = {str(term): term.weight for term in plan.terms}
    assert weights == {
        "image ~ audio": 0.7,
        "image ~ text": 0.7,
        "audio ~ text": 0.7,
        "image ~ audio+text": 0.3,
        "audio ~ image+text": 0.3,
        "text ~ image+audio": 0.3,
    }


def test_confu_plan_at_the_ends_keeps_only_what_trains():
    assert confu_plan(NAMES[:3], fused_weight=0).terms == pairwise_plan(NAMES[:3]).terms
    assert all(term.is_fused for term in confu_plan(NAMES[:3], fused_weight=1).terms)


@pytest.mark.parametrize("fused_weight", [-0.1, 1.1, float("nan")])
def test_lambda_outside_the_unit_interval_is_refused(fused_weight):
    with pytest.raises(ValueError, match=r"fused_weight .*\[0, 1\], got"):
        confu_plan(NAMES[:3], fused_weight=fused_weight)


def test_confu_plan_of_four_names_the_builder_to_use():
    with pytest.raises(ValueError, match=r"got 4.*disjoint_plan"):
        confu_plan(NAMES[:4])


def test_terms_do_not_care_which_side_is_first():
    assert Term.parse("image+audio ~ text") == Term.parse("text ~ audio+image")
    assert len({Term.parse("image ~ text"), Term.parse("text ~ image")}) == 1
    assert Term.parse("image ~ text", 2.0) != Term.parse("image ~ text")


def test_plan_round_trips_through_json():
    plan = disjoint_plan(NAMES[:4], fused_weight=0.25)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_subsets_are_in_the_plans_order_singles_first():
    plan = Plan.parse(["text ~ audio+image", "audio ~ text", "image ~ text"], modalities=("image", "audio", "text"))
    assert [str(s) for s in plan.subsets] == ["image", "audio", "text", "image+audio"]
    assert str(plan.subset("audio+image")) == "image+audio"


def test_an_only_fused_modality_has_no_embedding():
    plan = Plan.parse(["text ~ audio+image", "image ~ text"])
    assert {str(subset) for subset in plan.subsets} == {"text", "image", "audio+image"}


def test_print_says_the_cost():
    text = str(disjoint_plan(NAMES[:4]))
    assert "4 modalities, 25 terms, 10 fusion networks" in text
    assert len(text.splitlines()) == 27


@pytest.mark.parametrize(
    ("terms", "modalities", "message"),
    [
        (["image ~ txt"], ("image", "text"), "'txt', which is not a modality of this plan; they are image, text"),
        (["image ~ text"], ("image", "text", "audio"), "no term trains audio"),
        (["image ~ text", "text ~ image"], None, "given twice"),
        (["image ~ image+text"], None, "must be disjoint.*share image"),
        (["image text"], None, "with one '~'"),
        (["image ~ "], None, "non-empty"),
        ({"image ~ text": -1.0}, None, "positive number, got -1"),
        ({"image ~ text": float("nan")}, None, "positive number, got nan"),
        ([], ("image", "text"), "at least one term"),
        (["a ~ b"], ("a", "b", "a"), "names each modality once"),
    ],
)
def test_bad_plans_say_what_is_wrong(terms, modalities, message):
    with pytest.raises(ValueError, match=message):
        Plan.parse(terms, modalities=modalities)


def test_unknown_subset_and_target_are_named():
    plan = pairwise_plan(NAMES[:3])
    with pytest.raises(
        ValueError, match=r"unknown modality 'radar' in 'image\+radar'; this plan has image, audio, text"
    ):
        plan.subset("image+radar")
    with pytest.raises(ValueError, match="target must be one of"):
        target_plan(NAMES[:3], "radar")


def test_subset_equality_ignores_order_and_printing_keeps_it():
    assert Subset("a", "b") == Subset("b", "a") and hash(Subset("a", "b")) == hash(Subset("b", "a"))
    assert str(Subset("b", "a")) == "b+a"
    with pytest.raises(ValueError, match="once"):
        Subset("a", "a")
    with pytest.raises(ValueError, match="may not hold"):
        Subset("a~b")
