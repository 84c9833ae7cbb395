"""Objectives and batches for the tests of batches in parts, and the plain step that they must equal."""

import torch
from torch import nn

from confu.data import ArrayDataset, TensorColumn
from confu.data.gaps import IncompleteDataset, random_gaps
from confu.methods import build_objective
from confu.nn.encoders import build_encoder
from confu.training.cached_gradients import slice_batch, spans
from confu.types import Batch, Embeddings, Inputs

NAMES = ("image", "audio", "text")
ROWS, WIDTH = 23, 6
METHODS = {
    "confu": {},
    "confu-positives": {"same_group": "positives"},
    "confu-excluded": {"same_group": "excluded"},
    "confu-equal": {"same_group": "positives", "equal_inputs": "excluded"},
    "confu-bilinear": {},
    "tri-clip": {},
    "symile": {},
    "symile-n2": {},
    "gram": {},
    "triangle": {},
}


class Normed(nn.Module):
    """An encoder with dropout and batch norm, which says how many rows it saw and whether it made a graph."""

    def __init__(self, dropout: float = 0.0, norm: bool = False):
        super().__init__()
        self.out_dim = 8
        between = nn.BatchNorm1d(12) if norm else nn.Identity()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 12), between, nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 8))
        self.seen: list[tuple[int, bool]] = []

    def forward(self, values):
        self.seen.append((len(values), torch.is_grad_enabled()))
        return self.layers(values)


def objective(method="confu", dropout=0.0, norm=False, small=False):
    torch.manual_seed(0)
    made = {"kind": "mlp", "in_dim": WIDTH, "hidden_dims": [8], "out_dim": 8}
    encoders = {name: build_encoder(made) if small else Normed(dropout, norm) for name in NAMES}
    which = method.split("-p")[0].split("-e")[0]
    return build_objective(which, NAMES, encoders, dim=8, **METHODS[method])


def batch(gaps=True, repeats=False, rows=ROWS):
    generator = torch.Generator().manual_seed(3)
    inputs = {}
    for name in NAMES:
        distinct = 5 if repeats and name == "text" else rows
        values = torch.randn(distinct, WIDTH, generator=generator)
        if name == "audio":  # equal inputs
            values = values[torch.randint(min(7, rows), (distinct,), generator=generator)]
        where = torch.randint(distinct, (rows,), generator=generator) if distinct < rows else torch.arange(rows)
        lacks = torch.rand(rows, generator=generator) < (0.3 if gaps else 0.0)
        inputs[name] = Inputs(values, where.masked_fill(lacks, -1))
    groups = torch.randint(-1, 6, (rows,), generator=generator)
    return Batch(inputs, [str(row) for row in range(rows)], groups=groups)


def incomplete(count, seed):
    """A training set with gaps."""
    generator = torch.Generator().manual_seed(seed)
    columns = {name: TensorColumn(torch.randn(count, WIDTH, generator=generator)) for name in NAMES}
    groups = torch.randint(-1, 8, (count,), generator=generator)
    return IncompleteDataset(ArrayDataset(columns, groups=groups), random_gaps(count, NAMES, 0.5, seed))


def plain(module, given, chunk=None):
    """Loss and gradients of a plain step; with a chunk, of parts that are embedded apart, but all with a graph."""
    module.zero_grad(set_to_none=True)
    if chunk is None:
        out = module(given)
    else:
        made = [module.model(slice_batch(given, *span)) for span in spans(len(given), chunk)]
        out = module.loss(with_history(made, given))
    out.total.backward()
    return out.total.detach(), gradients(module)


def with_history(made, given):
    """All parts as one, through which the gradient flows."""
    rows = [len(next(iter(part.vectors.values()))) for part in made]
    vectors = {subset: torch.cat([part.vectors[subset] for part in made]) for subset in made[0].vectors}
    names = {name for part in made for name in part.present}
    everyone = [torch.ones(count, dtype=torch.bool) for count in rows]
    present = {name: torch.cat([one.present.get(name, all_) for one, all_ in zip(made, everyone)]) for name in names}
    return Embeddings(vectors, present, given.groups)


def gradients(module):
    return {name: None if one.grad is None else one.grad.clone() for name, one in module.named_parameters()}


def in_float64(given):
    inputs = {name: Inputs(one.values.double(), one.rows) for name, one in given.inputs.items()}
    return Batch(inputs, given.ids, groups=given.groups)


def assert_close(found, expected, most=1e-6):
    """The loss and the whole gradient within `most`, relative; that of each weight, whose sums may cancel, within 4."""
    assert abs(float(found[0] - expected[0])) <= most * abs(float(expected[0]))
    assert {name for name, one in found[1].items() if one is not None} == {
        name for name, one in expected[1].items() if one is not None
    }
    pairs = [(found[1][name].double(), one.double()) for name, one in expected[1].items() if one is not None]
    whole = torch.cat([(one - other).flatten() for one, other in pairs]).norm()
    assert whole <= most * torch.cat([other.flatten() for _, other in pairs]).norm()
    for one, other in pairs:
        assert (one - other).abs().max() <= 4 * most * other.abs().max().clamp(min=1e-3)
