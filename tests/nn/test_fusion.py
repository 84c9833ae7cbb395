"""Every registered fusion network passes the same checks; and what each does beyond them."""

import pytest
import torch

from confu.nn.fusion import (
    FUSIONS,
    BilinearFusion,
    FeatureMask,
    MLPFusion,
    ReleasedFusion,
    WeightedFusion,
    build_fusion,
)
from contracts import FUSION_CHECKS, FusionCase

CASES = [FusionCase(kind, in_dims) for kind in FUSIONS for in_dims in ((6, 9), (6, 9, 4))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{len(case.in_dims)}")
@pytest.mark.parametrize("check", FUSION_CHECKS, ids=lambda check: check.__name__)
def test_contract(check, case):
    check(case)


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"fusion kind 'blinear' is not known; did you mean 'bilinear'.*'mlp', 'released'"
    ):
        build_fusion("blinear", [2, 3], 4, 5)


def test_released_fusion_against_its_formula():
    fusion = ReleasedFusion([2, 3], dim=4, hidden_dim=8).eval()
    h = [torch.randn(6, 2), torch.randn(6, 3)]
    first, second = (layer for layer in fusion.layers if isinstance(layer, torch.nn.Linear))
    hidden = (torch.cat(h, 1) @ first.weight.T + first.bias).clamp(min=0)
    output = hidden @ second.weight.T + second.bias
    torch.testing.assert_close(fusion(h), torch.where(output > 0, output, 0.2 * output))
    assert [layer.p for layer in fusion.layers if isinstance(layer, torch.nn.Dropout)] == [0.1, 0.1]


def test_mlp_fusion_does_not_drop_by_default():
    fusion, h = MLPFusion([2, 3], dim=4).train(), [torch.randn(6, 2), torch.randn(6, 3)]
    assert torch.equal(fusion(h), fusion(h))
    dropping = MLPFusion([2, 3], dim=4, dropout=0.5).train()
    assert not torch.equal(dropping(h), dropping(h))


def test_weighted_fusion_begins_as_the_sum_of_directions():
    fusion, h = WeightedFusion([2, 3], dim=4, hidden_dim=8).eval(), [torch.randn(6, 2), torch.randn(6, 3)]
    normalize = torch.nn.functional.normalize
    directions = [normalize(linear(one), dim=1) for linear, one in zip(fusion.maps, h)]
    together = normalize(fusion.layers(torch.cat(h, 1)), dim=1)
    torch.testing.assert_close(fusion(h), sum(directions) + 0.1 * together)
    with torch.no_grad():
        fusion.confidences[0].bias.fill_(1e6)  # however sure one is, the others are not lost
        fusion.scale.zero_()
    torch.testing.assert_close(fusion(h) - directions[1], torch.e**4 * directions[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "shared", "weighted"])
def test_hidden_layers_are_dropped_in_training_only(kind):
    made = [build_fusion(kind, [2, 3], 4, 64, depth=2, dropout=share) for share in (0.0, 0.5)]
    weights = [list(fusion.parameters()) for fusion in made]
    for whole, dropped in zip(*weights, strict=True):
        dropped.data.copy_(whole.data)
    h = [torch.randn(6, 2), torch.randn(6, 3)]
    assert torch.equal(made[0].eval()(h), made[1].eval()(h))
    assert not torch.equal(made[1].train()(h), made[1](h))
    with pytest.raises(ValueError, match=r"got dropout 0\.5 with 'bilinear'\. Leave it at 0, or take another fusion"):
        build_fusion("bilinear", [2, 3], 4, 8, dropout=0.5)


@pytest.mark.parametrize("kind", ["mlp", "released", "weighted"])
def test_depth_is_the_number_of_hidden_layers(kind):
    fusion = build_fusion(kind, [2, 3], dim=4, hidden_dim=8, depth=3)
    linear = [layer for layer in fusion.layers if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 8), (8, 8), (8, 8), (8, 4)]
    assert fusion([torch.randn(6, 2), torch.randn(6, 3)]).shape == (6, 4)


def test_bilinear_fusion_has_no_depth():
    with pytest.raises(ValueError, match=r"the bilinear fusion has one product only; got depth 2\..*take fusion 'mlp'"):
        build_fusion("bilinear", [2, 3], 4, 8, depth=2)


def test_bilinear_fusion_against_its_formula():
    fusion, h = BilinearFusion([2, 3, 4], dim=5, hidden_dim=8), [torch.randn(6, n) for n in (2, 3, 4)]
    product = torch.ones(6, 8)
    for factor, features in zip(fusion.factors, h, strict=True):
        scaled = features / features.square().mean(dim=1, keepdim=True).sqrt()
        product = product * 3**0.5 * (scaled @ factor.weight.T + factor.bias)
    torch.testing.assert_close(fusion(h), product @ fusion.output.weight.T, atol=1e-5, rtol=1e-4)


def test_bilinear_fusion_ignores_the_scale_of_features():
    fusion, h = BilinearFusion([2, 3], dim=5, hidden_dim=8), [torch.randn(6, 2), torch.randn(6, 3)]
    torch.testing.assert_close(fusion([100 * h[0], 0.1 * h[1]]), fusion(h), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("modalities", "scale"), [(2, 1e-3), (4, 1.0), (7, 1e3)])
def test_bilinear_product_neither_vanishes_nor_explodes(modalities, scale):
    torch.manual_seed(0)
    fusion = BilinearFusion([32] * modalities, dim=16, hidden_dim=512)
    h = [scale * torch.randn(64, 32) for _ in range(modalities)]
    assert 0.3 < fusion(h).square().mean().sqrt() < 3


def test_bilinear_takes_a_row_of_zeros():
    """As the mask can make one."""
    fusion = BilinearFusion([2, 3], dim=4, hidden_dim=8)
    h = [torch.zeros(6, 2, requires_grad=True), torch.randn(6, 3)]
    fusion(h).sum().backward()
    assert fusion(h).isfinite().all()
    assert h[0].grad.isfinite().all()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
def test_feature_mask_drops_its_ratio_and_rescales(ratio):
    torch.manual_seed(0)
    mask, ones = FeatureMask(ratio).train(), torch.ones(500, 400)
    masked = mask(ones)
    assert (masked == 0).float().mean().item() == pytest.approx(ratio, abs=0.01)
    torch.testing.assert_close(masked.unique(), torch.tensor([0.0, 1 / (1 - ratio)] if ratio else [1.0]))
    assert masked.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(mask.eval()(ones), ones)


def test_feature_mask_is_drawn_for_each_modality_row_and_feature():
    torch.manual_seed(0)
    mask, ones = FeatureMask(0.5).train(), torch.ones(300, 200)
    first, second = (mask(ones) > 0).float(), (mask(ones) > 0).float()
    assert (first * second).mean().item() == pytest.approx(0.25, abs=0.02)
    for axis in (0, 1):
        assert first.mean(dim=axis).std() < 0.1  # neither whole rows nor whole columns
