"""A linear probe on one core, beside scikit-learn's logistic regression: one C, and seven.

python benchmarks/probe.py            # 50,000 rows of 512 numbers, 10 classes: some minutes
python benchmarks/probe.py --quick    # only whether both find the same minimum: seconds

scikit-learn stops where no number of the gradient is above its `tol`; confu where the weights are surely within its
tolerance. Both are measured as they are used, and scikit-learn with a `tol` at which its weights are as near.
"""

import argparse
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch
from measure import clock_of, interleaved, parser, ratio, write_results
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from confu.evaluation.linear_probe import DEFAULT_CS, fit_linear_probe

TOLERANCE = 1e-3  # what evaluate_linear_probe asks for
TOLS = (1e-4, 1e-6)  # scikit-learn's usual one, and a stricter one
CLASSES = 10
SPECTRA = ("even", "decaying", "few axes")


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    check_equal()
    if options.quick:
        return
    rows = []
    with threadpool_limits(options.threads):
        for spectrum in options.spectra:
            x, y = embeddings(options.rows, options.dim, spectrum)
            for cs in ((1.0,), DEFAULT_CS):
                rows += compared(spectrum, x, y, cs, options)
    write_results(options, {"classes": CLASSES, "tolerance": TOLERANCE}, rows=rows)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "probe", repeats=3)
    asked.add_argument("--rows", type=int, default=50_000)
    asked.add_argument("--dim", type=int, default=512)
    asked.add_argument("--spectra", nargs="+", choices=SPECTRA, default=SPECTRA, help="what the rows are like")
    return asked.parse_args()


def embeddings(n: int, dim: int, spectrum: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit vectors about the middle of their class: spread evenly, along fewer and fewer axes, or along twelve only."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    if spectrum == "few axes":
        middles = torch.randn(CLASSES, 12, generator=generator)
        along = middles[labels] + 0.6 * torch.randn(n, 12, generator=generator)
        x = along @ torch.randn(12, dim, generator=generator) / dim**0.5
        x = x + 1e-3 * torch.randn(n, dim, generator=generator)
    else:
        scale = torch.ones(dim) if spectrum == "even" else torch.logspace(0, -2, dim)
        scale = scale / scale.norm()
        middles = torch.nn.functional.normalize(torch.randn(CLASSES, dim, generator=generator), dim=1)
        x = 0.45 * middles[labels] * scale * dim**0.5 + 1.5 * torch.randn(n, dim, generator=generator) * scale
        x = x + 0.5 * middles[0]
    return torch.nn.functional.normalize(x, dim=1), labels


def compared(
    spectrum: str, x: Tensor, y: Tensor, cs: Sequence[float], options: argparse.Namespace
) -> list[dict[str, object]]:
    """A row for each contender."""
    ended: dict[str, list[float]] = {}

    def ours() -> None:
        ended["confu"] = [probe.loss for probe in fit_linear_probe(x, y, cs, TOLERANCE, 300)]

    def sklearns(tol: float) -> None:
        ended[f"scikit-learn, tol {tol:g}"] = [theirs(x, y, c, tol) for c in cs]

    peers: dict[str, Callable[[], None]] = {f"scikit-learn, tol {tol:g}": partial(sklearns, tol) for tol in TOLS}
    times = interleaved({"confu": ours, **peers}, options.repeats, warm_up=False)
    what, clock = "one C" if len(cs) == 1 else f"{len(cs)} C", clock_of(options.threads)
    print(f"{spectrum}, {what}: confu {times['confu'][clock]['median'] / 1e3:.2f} s", flush=True)
    rows: list[dict[str, object]] = [{"data": spectrum, "cs": list(cs), "contender": "confu", **times["confu"]}]
    for name in peers:
        found = ratio(times, "confu", name, clock)
        excess = [loss / mine - 1 for loss, mine in zip(ended[name], ended["confu"])]
        rows.append({"data": spectrum, "cs": list(cs), "contender": name, **found, **times[name],
                     "their objective above ours, parts": excess})  # fmt: skip
        print(f"  {name}: {times[name][clock]['median'] / 1e3:.2f} s; confu takes {found['ratio']:.2f} of it; its "
              f"objective is {min(excess):+.0e} to {max(excess):+.0e} of ours above it", flush=True)  # fmt: skip
    return rows


def theirs(x: Tensor, y: Tensor, c: float, tol: float) -> float:
    """scikit-learn's objective, in float64, where it ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it does not get there, the objective tells
        found = LogisticRegression(C=c, tol=tol, max_iter=1000).fit(x.numpy(), y.numpy())
    weight, bias = torch.from_numpy(found.coef_).double(), torch.from_numpy(found.intercept_).double()
    loss = sum(
        float(torch.nn.functional.cross_entropy(rows.double() @ weight.T + bias, own, reduction="sum"))
        for rows, own in zip(x.split(8192), y.split(8192))
    )
    return c * loss + float(weight.square().sum()) / 2


def check_equal() -> None:
    """Fail unless the objective is that of scikit-learn, or lower, at each C."""
    x, y = embeddings(2000, 32, "decaying")
    for c, probe in zip((0.1, 10.0), fit_linear_probe(x, y, (0.1, 10.0))):
        other = theirs(x.double(), y, c, 1e-8)
        if not -1e-6 < probe.loss / other - 1 < 1e-8:
            raise RuntimeError(f"C = {c:g}: the objective is {probe.loss}, scikit-learn's {other}")
        print(f"C = {c:g}: the objective of scikit-learn within {abs(probe.loss / other - 1):.0e}")


if __name__ == "__main__":
    main()
