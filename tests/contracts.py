"""What every registered encoder and fusion network must do. A new one is tested by adding it to a list of cases."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from confu.nn.encoders import build_encoder
from confu.nn.fusion import build_fusion
from confu.nn.precision import autocast_error, supports_autocast

Values = Tensor | dict[str, Tensor]
BUILT: dict[str, nn.Module] = {}


@dataclass(frozen=True)
class EncoderCase:
    """An encoder of tiny size.

    `unused` ends the names of parameters that the output does not depend on, by the network's mathematics.
    """

    name: str
    settings: dict[str, Any]
    inputs: Callable[[int], Values]
    unused: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        """A copy of the encoder, which is built once."""
        if self.name not in BUILT:
            BUILT[self.name] = self.build_anew()
        return copy.deepcopy(BUILT[self.name])

    def build_anew(self) -> nn.Module:
        torch.manual_seed(0)
        return build_encoder(self.settings)


@dataclass(frozen=True)
class FusionCase:
    kind: str
    in_dims: tuple[int, ...]
    dim: int = 7
    hidden_dim: int = 64

    def build(self, mask_ratio: float = 0.0) -> nn.Module:
        torch.manual_seed(0)
        return build_fusion(self.kind, self.in_dims, self.dim, self.hidden_dim, mask_ratio)

    def features(self, batch: int = 5) -> list[Tensor]:
        torch.manual_seed(1)
        return [torch.randn(batch, in_dim) for in_dim in self.in_dims]


def encode(encoder: nn.Module, values: Values) -> Tensor:
    return encoder(**values) if isinstance(values, dict) else encoder(values)


def each(values: Values, change: Callable[[Tensor], Tensor]) -> Values:
    return {name: change(value) for name, value in values.items()} if isinstance(values, dict) else change(values)


def check_all_trained(module: nn.Module, output: Tensor, unused: tuple[str, ...] = ()) -> None:
    # Random weights: the plain sum of what a LayerNorm gives is constant, and would give no gradient.
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    largest = max(parameter.grad.abs().max() for _, parameter in trained)
    for name, parameter in trained:
        assert parameter.grad.isfinite().all(), name
        assert name.endswith(unused or ("-",)) or parameter.grad.abs().max() > 1e-6 * largest, name


def encoder_gives_rows_of_out_dim(case: EncoderCase) -> None:
    encoder = case.build().eval()
    assert isinstance(encoder.out_dim, int)
    for batch in (0, 1, 5):
        values = case.inputs(max(batch, 1))
        output = encode(encoder, values if batch else each(values, lambda value: value[:0]))
        assert output.shape == (batch, encoder.out_dim)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def encoder_is_rebuilt_from_its_settings(case: EncoderCase) -> None:
    encoder, values = case.build(), case.inputs(4)
    state, same = encoder.state_dict(), case.build_anew().state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)  # the same seed, the same weights
    assert all(value.is_contiguous() for value in state.values())  # safetensors asks for it
    encode(encoder.train(), values)  # also moves running statistics
    rebuilt = build_encoder(json.loads(json.dumps(encoder.settings)))
    assert rebuilt.settings == encoder.settings
    assert rebuilt.settings["kind"] == case.settings["kind"]
    rebuilt.load_state_dict(encoder.state_dict())
    assert [p.requires_grad for p in rebuilt.parameters()] == [p.requires_grad for p in encoder.parameters()]
    expected = encode(encoder.eval(), values)
    torch.manual_seed(5)  # evaluation draws nothing
    assert torch.equal(encode(rebuilt.eval(), values), expected)


def encoder_keeps_rows_apart_in_eval(case: EncoderCase) -> None:
    encoder, values = case.build().eval(), case.inputs(3)
    together = encode(encoder, values)
    scale = together.abs().max()
    for i in range(2):
        alone = encode(encoder, each(values, lambda value, i=i: value[i : i + 1]))
        assert (alone[0] - together[i]).abs().max() < 1e-4 * scale
    assert (together[0] - together[1]).abs().max() > 1e-3 * scale  # and they do differ
    bad = each(values, torch.clone)
    for value in bad.values() if isinstance(bad, dict) else [bad]:
        if value.is_floating_point():
            value[0].view(-1)[-1 if value.ndim != 3 else 0] = torch.nan
            output = encode(encoder, bad)
            assert output[0].isnan().any()
            assert (output[1:] - together[1:]).abs().max() < 1e-4 * scale


def encoder_trains_what_is_not_frozen(case: EncoderCase) -> None:
    encoder, values = case.build().train(), case.inputs(6)
    before = {name: value.clone() for name, value in encoder.state_dict().items() if "output" not in name}
    output = encode(encoder, values)
    if getattr(encoder, "frozen", False):
        assert all("output" in name for name, p in encoder.named_parameters() if p.requires_grad)
        # The same as in evaluation: no dropout, no statistics of the batch.
        assert torch.equal(output, encode(case.build().eval(), values))
        assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())
    check_all_trained(encoder, output, case.unused)


def encoder_works_in_other_precisions(case: EncoderCase) -> None:
    encoder, values = case.build().eval(), case.inputs(2)
    single = encode(encoder, values)
    doubled = each(values, lambda value: value.double() if value.is_floating_point() else value)
    double = encode(case.build().eval().double(), doubled)
    assert double.dtype == torch.float64
    assert (double.float() - single).abs().max() < 1e-3 * single.abs().max()
    if not supports_autocast(encoder, values):  # this CPU lacks a kernel: then training must be told so beforehand
        assert "\n" not in autocast_error(encoder, values)
        return
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encode(encoder, values).float()
    assert (half - single).norm() < 0.1 * single.norm()


def encoder_takes_features_computed_before(case: EncoderCase) -> None:
    encoder, values = case.build().eval(), case.inputs(2)
    if getattr(encoder, "feature_dim", None) is None:
        return  # not a pretrained one
    features = encoder.features(**values) if isinstance(values, dict) else encoder.features(values)
    assert features.shape == (2, encoder.feature_dim)
    assert features.requires_grad == (not encoder.frozen)
    torch.testing.assert_close(encoder(features=features), encode(encoder, values), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=rf"features must be \(batch, {encoder.feature_dim}\).*another encoder"):
        encoder(features=features[:, 1:])


ENCODER_CHECKS = [
    encoder_gives_rows_of_out_dim,
    encoder_is_rebuilt_from_its_settings,
    encoder_keeps_rows_apart_in_eval,
    encoder_trains_what_is_not_frozen,
    encoder_works_in_other_precisions,
    encoder_takes_features_computed_before,
]


def fusion_gives_rows_of_dim(case: FusionCase) -> None:
    for batch in (1, 5):
        output = case.build()(case.features(batch))
        assert output.shape == (batch, case.dim)
        assert output.isfinite().all()


def fusion_trains_every_parameter(case: FusionCase) -> None:
    fusion = case.build(mask_ratio=0.2).train()
    check_all_trained(fusion, fusion(case.features(64)))


def fusion_keeps_rows_and_reads_modalities(case: FusionCase) -> None:
    fusion, features = case.build().eval(), case.features()
    together = fusion(features)
    alone = torch.cat([fusion([h[i : i + 1] for h in features]) for i in range(5)])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)
    for i, h in enumerate(features):
        difference = (fusion([*features[:i], h.flip(0), *features[i + 1 :]]) - together).abs().amax(dim=1)
        assert difference[[0, 1, 3, 4]].min() > 1e-4  # the middle row of five stays where it is
    features[1][0, 0] = torch.nan
    output = fusion(features)
    assert output[0].isnan().any()
    assert output[1:].isfinite().all()


def fusion_favours_no_modality_at_the_start(case: FusionCase) -> None:
    equal = FusionCase(case.kind, (8,) * len(case.in_dims), dim=32, hidden_dim=256)
    features = [h.requires_grad_() for h in equal.features(256)]
    output = equal.build().eval()(features)
    (output * torch.randn_like(output)).sum().backward()
    strengths = torch.stack([h.grad.norm() for h in features])
    assert strengths.max() < 1.5 * strengths.min()


def fusion_masks_the_stated_share_in_training(case: FusionCase) -> None:
    # A wide first modality, so that the share is close.
    wide = FusionCase(case.kind, (400, *case.in_dims[1:]))
    features, fusion = wide.features(100), wide.build(mask_ratio=0.3)
    torch.testing.assert_close(fusion.eval()(features), wide.build().eval()(features), atol=0, rtol=0)
    seen: list[Tensor] = []
    fusion.mask.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    assert not torch.equal(fusion.train()(features), fusion(features))
    assert len(seen) == 2 * len(features)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def fusion_works_in_other_precisions(case: FusionCase) -> None:
    fusion, features = case.build().eval(), case.features()
    single = fusion(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = fusion(features).float()
    assert (half - single).norm() < 0.1 * single.norm()
    double = fusion.double()([h.double() for h in features])
    torch.testing.assert_close(double.float(), single, atol=1e-4, rtol=1e-3)


def fusion_refuses_other_features_and_sizes(case: FusionCase) -> None:
    fusion, features = case.build(), case.features()
    wider = [torch.randn(5, case.in_dims[0] + 1), *features[1:]]
    shorter = [features[0][:3], *features[1:]]
    for bad in (features[:1], [*features, features[0]], wider, shorter):
        with pytest.raises(ValueError, match=r"features must be \d tensors \(batch, in_dim\).*got shapes"):
            fusion(bad)
    with pytest.raises(ValueError, match="in_dims must hold the sizes of at least two"):
        build_fusion(case.kind, case.in_dims[:1], case.dim, case.hidden_dim)
    with pytest.raises(ValueError, match=r"in_dims\[0\] must be a whole number"):
        build_fusion(case.kind, (0, *case.in_dims[1:]), case.dim, case.hidden_dim)
    with pytest.raises(ValueError, match="dim must be a whole number of at least 1; got 0"):
        build_fusion(case.kind, case.in_dims, 0, case.hidden_dim)
    with pytest.raises(ValueError, match="depth must be a whole number of at least 1; got 0"):
        build_fusion(case.kind, case.in_dims, case.dim, case.hidden_dim, depth=0)
    for ratio in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"ratio is the share that is dropped and must be in \[0, 1\)"):
            build_fusion(case.kind, case.in_dims, case.dim, case.hidden_dim, ratio)


FUSION_CHECKS = [
    fusion_gives_rows_of_dim,
    fusion_trains_every_parameter,
    fusion_keeps_rows_and_reads_modalities,
    fusion_favours_no_modality_at_the_start,
    fusion_masks_the_stated_share_in_training,
    fusion_works_in_other_precisions,
    fusion_refuses_other_features_and_sizes,
]
