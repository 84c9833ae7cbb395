"""The losses of a plan against sums written by hand."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from confu.losses import CLIPLoss, ConFuLoss, info_nce
from confu.nn import Temperature
from confu.plan import Plan, Subset, confu_plan, disjoint_plan, pairwise_plan
from confu.types import Embeddings

NAMES = ("image", "audio", "text")
PAIRS = [("image", "audio"), ("image", "text"), ("audio", "text")]
FUSED = [("image", "audio+text"), ("audio", "image+text"), ("text", "image+audio")]
SUBSETS = [*NAMES, "audio+text", "image+text", "image+audio"]


def embeddings(rows=8, dim=6, seed=0, subsets=SUBSETS, present=None):
    generator = torch.Generator().manual_seed(seed)
    vectors = {
        Subset.parse(name): normalize(torch.randn(rows, dim, generator=generator), dim=1).requires_grad_()
        for name in subsets
    }
    return Embeddings(vectors, present or {})


def only(z, rows):
    """The same embeddings of these rows only."""
    return Embeddings({subset: vectors[rows] for subset, vectors in z.vectors.items()})


def by_hand(z, terms, temperature=0.07, symmetric=True):
    return sum(info_nce(z[left], z[right], temperature, symmetric=symmetric) for left, right in terms)


@pytest.mark.parametrize("fused_weight", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_confu_is_equation_7_and_the_released_formula(fused_weight, temperature):
    z = embeddings()
    plan = confu_plan(NAMES, fused_weight)
    weighted = fused_weight * by_hand(z, FUSED, temperature) + (1 - fused_weight) * by_hand(z, PAIRS, temperature)
    paper, released = ConFuLoss(plan, temperature)(z), ConFuLoss(plan, temperature, weighting="released")(z)
    torch.testing.assert_close(paper.total, weighted, atol=1e-5, rtol=0)
    # Six terms, but three pairs alone: the released code never builds the fusion networks at a weight of zero.
    torch.testing.assert_close(released.total, weighted / (3 if fused_weight == 0 else 6), atol=1e-6, rtol=0)
    for name, value in paper.terms.items():
        left, right = name.split(" ~ ")
        torch.testing.assert_close(value, info_nce(z[left], z[right], temperature))  # before weighting
        assert not value.requires_grad
    torch.testing.assert_close(paper.terms, released.terms)
    assert len(paper.terms) == (3 if fused_weight in (0, 1) else 6)


def test_one_direction_is_equation_2_from_left_to_right():
    z = embeddings()
    plan = confu_plan(NAMES)
    out = ConFuLoss(plan, symmetric=False)(z)
    terms = [(term.left, term.right) for term in plan.terms]
    torch.testing.assert_close(out.total, 0.5 * by_hand(z, terms, symmetric=False), atol=1e-5, rtol=0)
    assert abs(out.total - ConFuLoss(plan)(z).total) > 1e-3


def test_weights_chosen_by_hand_are_those_of_the_sum():
    z = embeddings()
    plan = Plan.parse({"image ~ text": 2.0, "image+audio ~ text": 0.25})
    expected = 2.0 * by_hand(z, [("image", "text")]) + 0.25 * by_hand(z, [("image+audio", "text")])
    torch.testing.assert_close(ConFuLoss(plan)(z).total, expected)


@pytest.mark.parametrize("names", [("image", "text"), NAMES])
def test_clip_is_the_mean_of_every_pair(names):
    z = embeddings()
    pairs = [pair for pair in PAIRS if set(pair) <= set(names)]
    out = CLIPLoss(names)(z)
    torch.testing.assert_close(out.total, by_hand(z, pairs) / len(pairs))
    torch.testing.assert_close(out.total, ConFuLoss(pairwise_plan(names), weighting="released")(z).total)
    torch.testing.assert_close(out.terms, ConFuLoss(pairwise_plan(names))(z).terms)


def test_four_modalities_and_terms_between_two_fused_subsets():
    plan = disjoint_plan("abcd")
    z = embeddings(subsets=map(str, plan.subsets))
    terms = [(term.left, term.right) for term in plan.terms]
    assert len(terms) == 25
    torch.testing.assert_close(ConFuLoss(plan)(z).total, by_hand(z, terms), atol=1e-4, rtol=0)


MASKS = {"audio": torch.tensor([1, 1, 0, 1, 0, 1, 1, 1]).bool(), "text": torch.tensor([0, 1, 1, 1, 0, 1, 1, 0]).bool()}


def by_rows(z, term, complete):
    """Row by row: the complete rows ask, every row that has the other side answers."""

    def one_way(left, right):
        there = z.complete(right)
        answers = range(8) if there is None else there.nonzero().squeeze(1).tolist()
        losses = []
        for row in complete:
            scores = torch.stack([z[left][row] @ z[right][other] / 0.07 for other in answers])
            losses.append(scores.logsumexp(0) - scores[list(answers).index(row)])
        return torch.stack(losses).mean()

    return (one_way(term.left, term.right) + one_way(term.right, term.left)) / 2


@pytest.mark.parametrize("weighting", ["paper", "released"])
def test_terms_average_complete_rows_against_all_rows(weighting):
    plan = confu_plan(NAMES, 0.3)
    z = embeddings(present=MASKS)
    out = ConFuLoss(plan, weighting=weighting)(z)
    expected = 0
    for term in plan.terms:
        rows = [row for row in range(8) if all(bool(MASKS[m][row]) for m in [*term.left, *term.right] if m in MASKS)]
        assert out.rows[str(term)] == len(rows) == {"image ~ audio": 6, "image ~ text": 5}.get(str(term), 4)
        loss = by_rows(z, term, rows)
        torch.testing.assert_close(out.terms[str(term)], loss.detach())
        expected = expected + term.weight * loss
    torch.testing.assert_close(out.total, expected / (1 if weighting == "paper" else 6))


def test_missing_rows_get_no_gradient():
    plan = confu_plan(NAMES)
    z = embeddings(present=MASKS)
    clean = ConFuLoss(plan)(z).total
    with torch.no_grad():
        for subset, vectors in z.vectors.items():
            complete = z.complete(subset)
            if complete is not None:
                vectors[~complete] = torch.nan
    out = ConFuLoss(plan)(z)
    assert torch.equal(out.total, clean)
    assert all(torch.as_tensor(value).isfinite() for value in [*out.terms.values(), *out.metrics.values()])
    out.total.backward()
    for subset, vectors in z.vectors.items():
        assert vectors.grad.isfinite().all()
        complete = z.complete(subset)
        if complete is not None:
            assert not vectors.grad[~complete].any()
            assert vectors.grad[complete].any()
    # Row 4 has its image alone: it is a negative for the others, and nothing more.
    assert z["image"].grad[4].any()


def test_masks_that_are_all_true_are_as_no_masks():
    plan = confu_plan(NAMES)
    masks = {name: torch.ones(8, dtype=torch.bool) for name in NAMES}
    torch.testing.assert_close(ConFuLoss(plan)(embeddings(present=masks)).total, ConFuLoss(plan)(embeddings()).total)


@pytest.mark.parametrize("have", [0, 1])
def test_a_term_with_fewer_than_two_rows_is_left_out(have):
    audio = torch.zeros(8, dtype=torch.bool)
    audio[:have] = True
    z = embeddings(present={"audio": audio})
    out = ConFuLoss(confu_plan(NAMES))(z)
    assert list(out.terms) == list(out.rows) == ["image ~ text"]
    torch.testing.assert_close(out.total, 0.5 * by_hand(z, [("image", "text")]))
    assert "total_correlation_bound" not in out.metrics
    # The divisor stays that of the plan, so that a term's weight does not depend on the batch.
    released = ConFuLoss(confu_plan(NAMES), weighting="released")(z)
    torch.testing.assert_close(released.total, out.total / 6)
    torch.testing.assert_close(CLIPLoss(NAMES)(z).total, by_hand(z, [("image", "text")]) / 3)


def test_two_rows_are_enough_for_a_term():
    audio = torch.zeros(8, dtype=torch.bool)
    audio[[2, 5]] = True
    out = ConFuLoss(confu_plan(NAMES))(embeddings(present={"audio": audio}))
    assert out.rows["image ~ audio"] == out.rows["text ~ image+audio"] == 2
    assert len(out.terms) == 6


def test_the_logged_bound_is_that_of_the_terms():
    z = embeddings(present=MASKS)
    out = ConFuLoss(confu_plan(NAMES))(z)
    by_eq_13 = sum(math.log(out.rows[name]) - out.terms[name].item() for name in out.terms) / 3
    assert float(out.metrics["total_correlation_bound"]) == pytest.approx(by_eq_13, abs=1e-5)
    assert "total_correlation_bound" not in CLIPLoss(NAMES)(z).metrics  # pairs alone do not bound it
    assert "total_correlation_bound" in CLIPLoss(("image", "text"))(z).metrics


def test_collapsed_embeddings_bound_nothing():
    same = {Subset.parse(name): normalize(torch.ones(16, 4), dim=1) for name in SUBSETS}
    out = ConFuLoss(confu_plan(NAMES))(Embeddings(same))
    assert out.total.item() == pytest.approx(3 * math.log(16), abs=1e-4)  # six terms at a half
    assert float(out.metrics["total_correlation_bound"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("loss", [ConFuLoss(confu_plan(NAMES)), CLIPLoss(NAMES)], ids=["confu", "clip"])
def test_the_order_of_the_rows_does_not_matter(loss):
    z = embeddings()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(only(z, order)).total, loss(z).total)


@pytest.mark.parametrize("make", [lambda t: ConFuLoss(confu_plan(NAMES), t), lambda t: CLIPLoss(NAMES, t)])
def test_learned_temperature_gets_every_terms_gradient(make):
    loss = make(Temperature(0.2, learned=True))
    assert [tuple(parameter.shape) for parameter in loss.parameters()] == [()]
    out = loss(embeddings())
    out.total.backward()
    gradient = loss.temperature.log_inverse.grad
    step, totals = 1e-2, []
    for sign in (1, -1):
        moved = make(Temperature(0.2 * math.exp(-sign * step)))
        totals.append(moved(embeddings()).total.item())
    assert gradient.item() == pytest.approx((totals[0] - totals[1]) / (2 * step), rel=0.02)
    assert out.metrics["temperature"].item() == pytest.approx(0.2)
    assert not out.metrics["temperature"].requires_grad
    assert not list(make(0.2).parameters())  # a number stays fixed


def test_a_temperature_can_be_shared():
    shared = Temperature(0.1, learned=True)
    both = torch.nn.ModuleList([ConFuLoss(confu_plan(NAMES), shared), CLIPLoss(NAMES, shared)])
    assert len(list(both.parameters())) == 1


def test_a_batch_of_one_is_refused():
    for loss in (ConFuLoss(confu_plan(NAMES)), CLIPLoss(NAMES)):
        with pytest.raises(ValueError, match=r"no term of the plan has two complete rows.*the most is 1.*at least 2"):
            loss(embeddings(rows=1))


def test_a_batch_in_which_no_term_has_rows_is_refused():
    nothing = torch.zeros(8, dtype=torch.bool)
    with pytest.raises(ValueError, match="no term of the plan has two complete rows"):
        CLIPLoss(("image", "text"))(embeddings(present={"text": nothing}))


def test_embeddings_of_different_sizes_are_refused(as_users_run):
    z = embeddings()
    for masks in ({}, MASKS):
        wider = Embeddings({**z.vectors, Subset("text"): normalize(torch.randn(8, 7), dim=1)}, masks)
        with pytest.raises(ValueError, match=r"the same dim; got queries \(\d, 6\) and targets \(\d, 7\)"):
            ConFuLoss(confu_plan(NAMES))(wider)
    longer = Embeddings({**z.vectors, Subset("text"): normalize(torch.randn(9, 6), dim=1)})
    with pytest.raises(ValueError, match=r"the same number of rows.*\(8, 6\) and targets \(9, 6\)"):
        CLIPLoss(NAMES)(longer)


def test_a_missing_subset_is_refused():
    z = embeddings(subsets=[*NAMES, "image+audio"])
    with pytest.raises(ValueError, match=r"'image ~ audio\+text' needs embeddings of audio\+text, but there are only"):
        ConFuLoss(confu_plan(NAMES))(z)
    with pytest.raises(ValueError, match="give the model and the loss the same plan"):
        CLIPLoss(("image", "video"))(z)


def test_an_unknown_weighting_is_refused(as_users_run):
    with pytest.raises(ValueError, match="weighting 'relesed' is not known; did you mean 'released'"):
        ConFuLoss(confu_plan(NAMES), weighting="relesed")


def test_settings_outside_their_range_are_refused():
    for weight in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"λ of Eq. 7\) must lie in \[0, 1\]"):
            ConFuLoss(confu_plan(NAMES, weight))
    with pytest.raises(ValueError, match="initial must be in"):
        ConFuLoss(confu_plan(NAMES), temperature=0.0)
