"""What the Triton kernels must do; on the CPU run as a program, in which Triton interprets them."""

import itertools
import json
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from confu.losses import ContrastOptions, info_nce_terms, infonce, tiled
from confu.losses.infonce import SAME_GROUP

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2}
TERMS = [("a", "b"), ("a", "c"), ("b", "c")]


@contextmanager
def always(device, **changes):
    """Kernels wherever they can, of small tiles, on any device; what is yielded lists each engine that was used."""
    from confu.losses import triton_kernels

    used = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFU_TRITON", "1")
        patch.setattr(tiled, "KERNEL_DEVICES", (device,))
        patch.setattr(tiled, "STACKED", 0)
        patch.setattr(infonce, "SMALL", 0)
        cuts = {key: {512: [(16, 16, 4, 2), (32, 16, 4, 2)]} for key in triton_kernels._CUTS}
        patch.setattr(triton_kernels, "_CUTS", cuts)
        log_sums = triton_kernels.Kernels.log_sums
        patch.setattr(
            triton_kernels.Kernels, "log_sums", lambda self, block: (used.append(self), log_sums(self, block))[1]
        )
        for name, value in changes.items():
            patch.setattr(triton_kernels, name, value)
        yield used


def contrasted(vectors, options, temperature, present=None, groups=None):
    leaves = {side: one.detach().requires_grad_() for side, one in vectors.items()}
    wide = leaves["a"].dtype == torch.float64
    tau = torch.tensor(temperature, device=leaves["a"].device, dtype=torch.float64 if wide else torch.float32)
    tau.requires_grad_()
    total, losses = info_nce_terms(
        leaves, TERMS, tau, weights=[1.0, 2.0, 0.5], present=present, groups=groups, options=options
    )
    total.backward()
    return losses, [*(one.grad for one in leaves.values()), tau.grad]


def terms(device, dtype, options, rows=70, dim=20, gaps=True, **changes):
    """Losses and gradients are those of float64 by torch."""
    generator = torch.Generator().manual_seed(1)
    vectors = {side: normalize(torch.randn(rows, dim, generator=generator), dim=1) for side in "abc"}
    vectors = {side: one.to(dtype).to(device) for side, one in vectors.items()}
    present = {side: (torch.rand(rows, generator=generator) < 0.7).to(device) for side in "ab"} if gaps else None
    groups = torch.randint(-1, 9, (rows,), generator=generator).to(device)
    with always(device, **changes) as used:
        losses, gradients = contrasted(vectors, options, 0.1, present, groups)
    assert {one.dtype for one in used} == {dtype}
    exact = {side: one.double() for side, one in vectors.items()}
    expected, exact_gradients = contrasted(exact, options, 0.1, present, groups)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, exact_gradients):
        assert (one - other).norm() < 3 * TOLERANCE[dtype] * other.norm().clamp(min=1e-2)


def every_option(device):
    """Gaps, groups, smoothing, one or both ways, both types."""
    for number, (same_group, dtype) in enumerate(itertools.product(SAME_GROUP, TOLERANCE)):
        terms(device, dtype, ContrastOptions(number % 3 != 0, same_group, 0.1 * (number % 2)))


def shapes(device):
    for rows, dim in ((2, 3), (17, 16), (33, 5)):
        terms(device, torch.float32, ContrastOptions(), rows, dim, gaps=False)


def several_launches_and_parts(device):
    options = ContrastOptions(same_group="excluded")
    terms(device, torch.float32, options, _LINES=2)
    terms(device, torch.float32, options, _EXTRA=0)


def the_same_bits_each_time(device):
    a, b, c = normalize(torch.randn(3, 90, 24, generator=torch.Generator().manual_seed(0)), dim=2).to(device)
    with always(device):
        first, second = (contrasted({"a": a, "b": b, "c": c}, ContrastOptions(), 0.1) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(one, other) for one, other in zip(first[1], second[1]))


def what_they_cannot_do_is_torchs(device):
    sides = dict(zip("abc", normalize(torch.randn(3, 20, 8, generator=torch.Generator().manual_seed(0)), dim=2)))
    sides = {side: one.to(device) for side, one in sides.items()}
    wide = {side: one.new_ones(20, 513) / 513**0.5 for side, one in sides.items()}
    double = {side: one.double() for side, one in sides.items()}
    with always(device) as used:
        for vectors, temperature in ((sides, 0.005), (wide, 0.1), (double, 0.1)):
            contrasted(vectors, ContrastOptions(), temperature)
        assert not used
        contrasted(sides, ContrastOptions(), 0.0131)
        assert used


def measured(device):
    """The fastest of those that are as exact; what fails or differs is not taken."""
    from confu.losses import triton_kernels
    from confu.losses.triton_kernels import Kernels

    sides = dict(zip("abc", normalize(torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0)), dim=2)))
    sides = {side: one.to(device) for side, one in sides.items()}
    for torchs, expected in ((3.0, 1.0), (0.5, None)):
        choices = {}
        seconds = lambda block, kernels, torchs=torchs: torchs if kernels is None else kernels.tile / 16  # noqa: E731
        with always(device, _choices=choices, _seconds=seconds) as used, pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONFU_TRITON", "auto")
            patch.setattr(tiled, "_worth_it", lambda *arguments: True)
            contrasted(sides, ContrastOptions(), 0.1)
            (choice,) = choices.values()
            assert (choice.kernels is None) == (expected is None)
            if expected:
                assert choice.kernels.tile == 16
                assert choice.ratio == pytest.approx(expected / torchs)
                used.clear()
                contrasted(sides, ContrastOptions(), 0.1)
                assert used
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        bad = triton_kernels.choose(_block(sides), [Kernels(16, 0)], 1e-4)
        assert bad.kernels is None and "failed: ZeroDivisionError" in bad.why
        patch.setattr(triton_kernels, "LOG2E", 1.45)
        off = triton_kernels.choose(_block(sides), [Kernels(16, 16)], 1e-4)
        assert off.kernels is None and "off" in off.why


def _block(sides):
    blocks = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "STACKED", 0)
        patch.setattr(tiled, "_kernels", lambda block, bfloat16: blocks.append(block))
        info_nce_terms(sides, TERMS, 0.1)
    return blocks[0]


CASES = (
    every_option,
    shapes,
    several_launches_and_parts,
    the_same_bits_each_time,
    what_they_cannot_do_is_torchs,
    measured,
)


def main(out):
    torch.set_num_threads(1)
    assert "triton" not in sys.modules, "confu imports triton"
    failed = {}
    for case in CASES:
        try:
            case("cpu")
            failed[case.__name__] = ""
        except Exception:
            failed[case.__name__] = traceback.format_exc()
    Path(out).write_text(json.dumps(failed))


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET") == "1"
    main(sys.argv[1])
