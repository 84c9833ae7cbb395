"""The Triton kernels against the definition, on any device.

Run as a program, it has Triton's interpreter do all cases on the CPU, and writes what failed.
"""

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from confu.losses import gpu_sums, log_sums, terms, triton_launch
from confu.losses.terms import SAME_GROUP, info_nce_terms
from confu.losses.triton_launch import Tiling
from confu.losses.triton_sums import triton_log_sums

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 6e-3}  # of gradients, relative; the interpreter cuts bits off
SMALL = Tiling(16, 16, 4)
SHAPES = [(37, (20, 53), 24), (64, (64,), 16), (5, (7, 0, 40), 40), (1, (1,), 1), (50, (33, 33, 33), 130)]


@contextlib.contextmanager
def always(patch, device, **changes):
    """The kernels wherever they can, on this device."""
    patch.setattr(gpu_sums, "DEVICES", (device,))
    patch.setattr(gpu_sums, "_LEAST_ROWS", 1)
    patch.setenv("CONFU_TRITON", "1")
    calls = []

    def watched(*args, **kwargs):
        calls.append(kwargs["dtype"])
        return triton_log_sums(*args, **kwargs)

    patch.setattr(gpu_sums, "triton_log_sums", watched)
    for name, value in changes.items():
        patch.setattr(log_sums, name, value)
    yield calls


def drawn(n, sizes, dim, dtype, device, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = [normalize(torch.randn(rows, dim, generator=generator), dim=1) for rows in (n, sum(sizes))]
    left, right = (side.to(dtype).float().to(device).requires_grad_() for side in sides)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    same = tuple(torch.randint(-1, 3, (rows,), generator=generator).to(device) for rows in (n, sum(sizes)))
    weights = torch.randn(n, len(sizes), generator=generator), torch.randn(sum(sizes), generator=generator)
    return left, right, ends, same, [one.to(device) for one in weights]


def defined(left, right, ends, temperature, same):
    """By the definition, in float64."""
    scores = left @ right.T / temperature
    if same is not None:
        scores = scores.masked_fill((same[0][:, None] == same[1]) & (same[0] >= 0)[:, None], -torch.inf)
    starts = [0, *ends[:-1]]
    return torch.stack([scores[:, a:b].logsumexp(1) for a, b in zip(starts, ends)], dim=1), scores.logsumexp(0)


def weighted(rows, columns, weights):
    return sum((one * weight)[one.isfinite()].sum() for one, weight in zip((rows, columns), weights))


def against_the_definition(device, dtype, with_same, columns=True, tiling=SMALL):
    for n, sizes, dim in SHAPES:
        left, right, ends, same, weights = drawn(n, sizes, dim, dtype, device)
        tau = torch.tensor(0.07, device=device, requires_grad=True)
        same = same if with_same else None
        rows, cols = triton_log_sums(
            left, right, ends, tau, columns=columns, same=same, dtype=dtype, tiling=tiling
        )  # fmt: skip
        exact = [one.detach().double().requires_grad_() for one in (left, right, tau)]
        expected = defined(*exact[:2], ends, exact[2], same)
        torch.testing.assert_close(rows.double(), expected[0], atol=5e-6, rtol=1e-6)
        if columns:
            torch.testing.assert_close(cols.double(), expected[1], atol=5e-6, rtol=1e-6)
        weights = weights if columns else weights[:1]
        weighted(rows, cols, weights).backward()
        weighted(*expected, weights).backward()
        for ours, theirs in zip((left, right, tau), exact):
            off = (ours.grad - theirs.grad).norm() / theirs.grad.norm().clamp(min=1e-3)
            assert off < 2 * TOLERANCE[dtype], (n, sizes, dim, float(off))


def float32(device):
    against_the_definition(device, torch.float32, with_same=False)


def bfloat16(device):
    against_the_definition(device, torch.bfloat16, with_same=False)


def groups_left_out(device):
    for dtype in TOLERANCE:
        against_the_definition(device, dtype, with_same=True)


def rows_alone(device):
    against_the_definition(device, torch.float32, with_same=True, columns=False)


def usual_tilings(device):
    for dtype in TOLERANCE:
        for tiling in triton_launch.tilings(24, dtype):
            against_the_definition(device, dtype, with_same=False, tiling=tiling)


def several_launches_and_parts(device):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_launch, "_LINES", 2)
        against_the_definition(device, torch.float32, with_same=True)
        patch.setattr(triton_launch, "_EXTRA", 0)
        against_the_definition(device, torch.float32, with_same=True)


def the_same_bits_each_time(device):
    found = []
    for _ in range(2):
        left, right, ends, same, weights = drawn(150, (90, 90), 24, torch.bfloat16, device)
        rows, cols = triton_log_sums(left, right, ends, same=same, dtype=torch.bfloat16)
        weighted(rows, cols, weights).backward()
        found.append([rows, cols, left.grad, right.grad])
    assert all(torch.equal(one, other) for one, other in zip(*found))


def all_terms(device):
    """Through `info_nce_terms`: gaps, groups, smoothing, a learned temperature, one or both ways, both types."""
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    for dtype in TOLERANCE:
        for number, same_group in enumerate(SAME_GROUP):
            generator = torch.Generator().manual_seed(number)
            ours = {side: normalize(torch.randn(70, 20, generator=generator), dim=1) for side in "abc"}
            ours = {side: one.to(dtype).to(device).requires_grad_() for side, one in ours.items()}
            present = {side: (torch.rand(70, generator=generator) < 0.7).to(device) for side in "ab"}
            options = {
                "present": present, "groups": torch.randint(-1, 9, (70,), generator=generator).to(device),
                "same_group": same_group, "label_smoothing": 0.1 * number, "symmetric": number < 2,
            }  # fmt: skip
            exact = {side: one.detach().double().requires_grad_() for side, one in ours.items()}
            taus = [
                torch.tensor(0.1, device=device, requires_grad=True, dtype=one.dtype)
                for one in (torch.ones(1), exact["a"])
            ]
            with pytest.MonkeyPatch.context() as patch, always(patch, device) as calls:
                found = torch.stack(info_nce_terms(ours, pairs, taus[0], **options))
                found.sum().backward()
            assert calls and set(calls) == {dtype}
            expected = torch.stack(info_nce_terms(exact, pairs, taus[1], **options))
            expected.sum().backward()
            torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
            for mine, theirs in zip((*ours.values(), taus[0]), (*exact.values(), taus[1])):
                assert mine.grad.dtype == mine.dtype
                assert (mine.grad - theirs.grad).norm() < 3 * TOLERANCE[dtype] * theirs.grad.norm().clamp(min=1e-2)


def scores_that_do_not_fit_are_torchs(device):
    a, b = (one.detach() for one in drawn(20, (20,), 8, torch.float32, device)[:2])
    with pytest.MonkeyPatch.context() as patch, always(patch, device) as calls:
        for temperature, kernels in ((0.005, 0), (0.0131, 1)):
            calls.clear()
            loss = info_nce_terms({"a": a, "b": b}, [("a", "b")], temperature, keep=False)[0]
            scores = a.double() @ b.double().T / temperature
            expected = ((scores.logsumexp(1) + scores.logsumexp(0)) / 2 - scores.diagonal()).mean()
            assert len(calls) == kernels
            torch.testing.assert_close(loss.double(), expected, atol=1e-4, rtol=1e-6)


def what_they_cannot_do_is_torchs(device):
    with pytest.MonkeyPatch.context() as patch, always(patch, device) as calls:
        for n, m, dim, dtype in ((4, 4, 3, torch.float64), (4, 4, 513, torch.float32), (0, 4, 3, torch.float32)):
            left, right = torch.ones(n, dim, dtype=dtype, device=device), torch.ones(m, dim, dtype=dtype, device=device)
            rows, _ = log_sums.log_sums(left / dim, [right], keep=False)
            torch.testing.assert_close(rows.exp(), torch.full_like(rows, m * torch.e))
        log_sums.log_sums(left.new_ones(4, 3), [right[:, :3]], keep=True)
        assert not calls
        log_sums.log_sums(left.new_ones(4, 3), [right[:, :3]], keep=False)
        assert calls == [torch.float32]


def measured(device):
    left, right, _, _, _ = drawn(40, (40,), 8, torch.float32, device)
    with pytest.MonkeyPatch.context() as patch, always(patch, device) as calls:
        patch.setenv("CONFU_TRITON", "auto")
        for fast, times in ((True, iter([3.0, 1.0, 2.0] * 3)), (False, iter([1.0, 3.0, 2.0] * 3))):
            patch.setattr(gpu_sums, "_choices", {})
            patch.setattr(gpu_sums, "_seconds", lambda work, device, times=times: next(times))
            for _ in range(2):
                calls.clear()
                log_sums.log_sums(left, [right], keep=False)
            (choice,) = gpu_sums._choices.values()
            assert (choice.tiling is not None) == fast == bool(calls)
            assert choice.ratio == pytest.approx(1 / 3 if fast else 2)


CASES = (
    float32, bfloat16, groups_left_out, rows_alone, usual_tilings, several_launches_and_parts, the_same_bits_each_time,
    all_terms, scores_that_do_not_fit_are_torchs, what_they_cannot_do_is_torchs, measured,
)  # fmt: skip


def main(out):
    torch.set_num_threads(1)
    assert terms and "triton" not in sys.modules, "confu imports triton"
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
