"""The losses that compare all modalities at once, as modules."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from confu.losses import GRAMLoss, SymileLoss, TRIANGLELoss, gram_contrast, symile_contrast
from confu.nn import Temperature
from confu.plan import Subset
from confu.types import Embeddings
from losses.parts import JOINT, NAMES
from oracles import anchor_contrast_oracle, gram_score_oracle, symile_oracle, triangle_score_oracle

joint = pytest.mark.parametrize("make", JOINT.values(), ids=JOINT)


def embeddings(rows=8, dim=6, seed=0, names=NAMES, present=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    draw = {name: torch.randn(rows, dim, generator=generator, dtype=dtype) for name in names}
    vectors = {Subset.parse(name): normalize(one, dim=1).requires_grad_() for name, one in draw.items()}
    return Embeddings(vectors, present or {})


def rows_of(z, rows):
    return Embeddings({subset: vectors[rows] for subset, vectors in z.vectors.items()})


def others_of(name, names):
    return [one for one in names if one != name]


@pytest.mark.parametrize("anchors", [None, ["text"], ["text", "image"]], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gram_and_triangle_are_the_mean_over_their_anchors(anchors, smoothing):
    z = embeddings(rows=4, dtype=torch.float64)
    plain = {name: z[name].tolist() for name in NAMES}
    options = {"temperature": 0.2, "anchors": anchors, "label_smoothing": smoothing}
    for loss, score in [
        (GRAMLoss(NAMES, **options), gram_score_oracle),
        (TRIANGLELoss(NAMES, **options), triangle_score_oracle("published")),
        (TRIANGLELoss(NAMES, formula="released", **options), triangle_score_oracle("released")),
    ]:
        out = loss(z)
        assert list(out.terms) == [
            {"image": "image ~ (audio, text)", "audio": "audio ~ (image, text)", "text": "text ~ (image, audio)"}[one]
            for one in anchors or NAMES
        ]
        by_hand = [
            anchor_contrast_oracle(
                score, plain[one], [plain[other] for other in others_of(one, NAMES)], 0.2, label_smoothing=smoothing
            )
            for one in anchors or NAMES
        ]
        assert [term.item() for term in out.terms.values()] == pytest.approx(by_hand, abs=1e-6)
        assert out.total.item() == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-6)
        assert set(out.rows.values()) == {4}
        assert out.metrics["temperature"].item() == pytest.approx(0.2)
        assert not any(value.requires_grad for value in [*out.terms.values(), out.metrics["temperature"]])


def test_symile_is_the_mean_over_all_modalities():
    z = embeddings(rows=4, dtype=torch.float64)
    plain = {name: z[name].tolist() for name in NAMES}
    by_hand = [symile_oracle(plain[one], [plain[other] for other in others_of(one, NAMES)], 0.2) for one in NAMES]
    out = SymileLoss(NAMES, 0.2, negatives="n_squared")(z)
    assert [term.item() for term in out.terms.values()] == pytest.approx(by_hand, abs=1e-6)
    assert out.total.item() == pytest.approx(sum(by_hand) / 3, abs=1e-6)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_symile_and_gram_take_any_number_of_modalities(count):
    names = "abcde"[:count]
    z = embeddings(rows=3, dim=7, names=names)
    out = GRAMLoss(tuple(names), 0.2)(z)
    expected = [gram_contrast(z[one], [z[other] for other in others_of(one, names)], 0.2) for one in names]
    torch.testing.assert_close(out.total, sum(expected) / count)
    out = SymileLoss(tuple(names), 0.2, negatives="n_squared")(z)
    expected = [
        symile_contrast(z[one], [z[other] for other in others_of(one, names)], 0.2, negatives="n_squared")
        for one in names
    ]
    torch.testing.assert_close(out.total, sum(expected) / count)
    out.total.backward()
    assert all(vectors.grad.abs().max() > 0 for vectors in z.vectors.values())


@pytest.mark.parametrize("name", [name for name in JOINT if name != "symile"])  # its shuffles depend on the order
def test_the_order_of_the_modalities_and_rows_does_not_matter(name):
    make = JOINT[name]
    z, loss = embeddings(), make(temperature=0.2)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(rows_of(z, order)).total, loss(z).total)
    other_way = make.func(NAMES[::-1], temperature=0.2, **make.keywords)
    torch.testing.assert_close(other_way(z).total, loss(z).total)
    # The order of the embeddings in their mapping is nobody's business.
    torch.testing.assert_close(loss(Embeddings(dict(reversed(z.vectors.items())))).total, loss(z).total)


MASKS = {"audio": torch.tensor([1, 1, 0, 1, 0, 1, 1, 1]).bool(), "text": torch.tensor([0, 1, 1, 1, 0, 1, 1, 0]).bool()}
COMPLETE = [1, 3, 5, 6]


@joint
def test_rows_that_lack_a_modality_are_as_if_deleted(make):
    z, loss = embeddings(present=MASKS), make().eval()
    with torch.no_grad():
        for name, mask in MASKS.items():
            z[name][~mask] = torch.nan
    out, expected = loss(z), loss(rows_of(z, COMPLETE))
    assert torch.equal(out.total, expected.total)
    assert set(out.rows.values()) == {4}
    out.total.backward()
    for vectors in z.vectors.values():
        assert vectors.grad.isfinite().all()
        assert vectors.grad[COMPLETE].any(dim=1).all()
        assert not vectors.grad[[0, 2, 4, 7]].any()


@joint
def test_too_few_rows_are_refused(make):
    loss = make()
    with pytest.raises(ValueError, match=r"on rows that have all of image, audio, text, needs at least 2 rows; got 1"):
        loss(embeddings(rows=1))
    audio = torch.zeros(8, dtype=torch.bool)
    audio[0] = True
    with pytest.raises(ValueError, match=r"got 1\. Use a larger batch.*or check that the rows are not missing"):
        loss(embeddings(present={"audio": audio}))
    audio[5] = True
    assert loss(embeddings(present={"audio": audio})).total.isfinite()


@joint
def test_a_modality_without_embeddings_is_refused(make):
    with pytest.raises(ValueError, match=r"needs embeddings of text, but there are only those of image, audio"):
        make()(embeddings(names=("image", "audio")))


def test_wrong_settings_are_refused(as_users_run):
    with pytest.raises(ValueError, match=r"exactly three modalities; got 4: a, b, c, d\. Use GRAMLoss, SymileLoss or"):
        TRIANGLELoss(tuple("abcd"))
    with pytest.raises(ValueError, match="exactly three modalities; got 2"):
        TRIANGLELoss(NAMES[:2])
    for loss in (GRAMLoss, SymileLoss, TRIANGLELoss):
        with pytest.raises(ValueError, match=r"at least two modalities; got \['image'\]"):
            loss(NAMES[:1])
        with pytest.raises(ValueError, match="names each modality once"):
            loss(("image", "image", "text"))
        with pytest.raises(ValueError, match="initial must be in"):
            loss(NAMES, temperature=0.0)
    for loss in (GRAMLoss, TRIANGLELoss):
        with pytest.raises(ValueError, match="anchor 'txt' is not known; did you mean 'text'"):
            loss(NAMES, anchors=["txt"])
        for anchors in ([], ["text", "text"]):
            with pytest.raises(ValueError, match="anchors must name one or more modalities, each once"):
                loss(NAMES, anchors=anchors)
    with pytest.raises(ValueError, match="negatives 'squared' is not known"):
        SymileLoss(NAMES, negatives="squared")
    with pytest.raises(ValueError, match="formula 'realeased' is not known; did you mean 'released'"):
        TRIANGLELoss(NAMES, formula="realeased")


def test_symile_shuffles_are_fixed_in_evaluation():
    z, loss = embeddings(), SymileLoss(NAMES)

    def under(seed):
        torch.manual_seed(seed)
        return loss(z).total

    assert torch.equal(under(0), under(0))
    assert not torch.equal(under(0), under(1))
    torch.manual_seed(0)
    assert not torch.equal(loss(z).total, loss(z).total)  # new ones at each step
    loss.eval()
    before = torch.get_rng_state()
    assert torch.equal(under(0), under(1))
    torch.set_rng_state(before)
    loss(z).total.backward()
    assert torch.equal(torch.get_rng_state(), before)


@joint
def test_only_symile_of_few_negatives_draws_random_numbers(make):
    z, loss = embeddings(), make()
    before = torch.get_rng_state()
    loss(z).total.backward()
    draws = not torch.equal(torch.get_rng_state(), before)
    assert draws == (make.func is SymileLoss and "negatives" not in make.keywords)


@joint
def test_the_default_temperature_is_learned(make):
    assert len(list(make().parameters())) == 1
    assert not list(make(temperature=0.2).parameters())
    step = 1e-2
    totals = [make(temperature=0.2 * math.exp(-sign * step)).eval()(embeddings()).total.item() for sign in (1, -1)]
    loss = make(temperature=Temperature(0.2, learned=True)).eval()
    loss(embeddings()).total.backward()
    numeric = (totals[0] - totals[1]) / (2 * step)
    assert loss.temperature.log_inverse.grad.item() == pytest.approx(numeric, rel=0.02, abs=1e-4)
