"""Another package adds an encoder, a loss, an index backend, a data set and a command by entry points alone."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

import confu
from confu.index import About
from confu.methods import METHODS, build_objective
from confu.plan import Subset

MODULE = """
import torch
from torch import nn

from confu.index import exact
from confu.losses import ConFuLoss, LossOutput
from confu.methods import Method
from confu.nn.encoders.registry import EncoderRow
from confu_paper.datasets.registry import DataSet


class LinearEncoder(nn.Module):
    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.out_dim = out_dim
        self.settings = {"kind": "acme-linear", "in_dim": in_dim, "out_dim": out_dim}
        self.linear = nn.Linear(in_dim, out_dim)

    def forward(self, inputs):
        return self.linear(inputs)


class DoubledLoss(ConFuLoss):
    def forward(self, embeddings):
        output = super().forward(embeddings)
        return LossOutput(2 * output.total, output.terms, output.rows, output.metrics)


ENCODER = EncoderRow("acme-linear", "acme:LinearEncoder", reads={"vector": {}})
METHOD = Method(DoubledLoss, "twice ConFu's loss", fused=True)
DATA_SET = DataSet("acme-set", "Acme", "rows of numbers", "made by hand")
create, open_ = exact.create, exact.open_
"""
ENTRY_POINTS = """
[confu.encoders]
acme-linear = acme:ENCODER
[confu.methods]
acme-doubled = acme:METHOD
[confu.index_backends]
acme-store = acme
[confu_paper.datasets]
acme-set = acme:DATA_SET
"""
# A module of its own: commands are registered at every start, and must not import torch.
COMMAND = """
def register(app):
    @app.command()
    def acme():
        "Say hello."
        print("hello from acme")
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with the modules and the metadata that pip would have written, on `sys.path`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "acme.py").write_text(textwrap.dedent(MODULE))
    (folder / "acme_commands.py").write_text(COMMAND)
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"{ENTRY_POINTS}[confu.commands]\nacme = acme_commands:register\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("acme", None)


def test_an_encoder_of_another_package_is_built(package):
    encoder = confu.build_encoder({"kind": "acme-linear", "in_dim": 3, "out_dim": 4})
    assert encoder(torch.zeros(2, 3)).shape == (2, 4)
    with pytest.raises(ValueError, match="acme-linear"):
        confu.build_encoder({"kind": "acme-liner", "in_dim": 3, "out_dim": 4})


def test_a_method_of_another_package_is_trained(package):
    encoder = {"kind": "acme-linear", "in_dim": 3, "out_dim": 4}
    inputs = {name: confu.Inputs(torch.randn(8, 3), torch.arange(8)) for name in "abc"}
    batch = confu.Batch(inputs, ids=[str(row) for row in range(8)])
    totals = {}
    for method in ("confu", "acme-doubled"):
        torch.manual_seed(0)
        encoders = {name: confu.build_encoder(encoder) for name in "abc"}
        totals[method] = build_objective(method, "abc", encoders, dim=4)(batch).total
    assert "acme-doubled" in METHODS
    torch.testing.assert_close(totals["acme-doubled"], 2 * totals["confu"])


def test_a_backend_of_another_package_stores(package, tmp_path):
    about = About(model="", fingerprint="", dim=2, subsets=(Subset("a"),), kinds={"a": "vector"})
    confu.Index.create(tmp_path / "index", about, backend="acme-store").close()
    with confu.Index.open(tmp_path / "index") as index:
        assert len(index) == 0


def test_a_data_set_of_another_package_is_listed(package):
    from confu_paper.datasets.registry import data_set, data_sets

    assert data_set("acme-set").title == "Acme" and "acme-set" in data_sets()


def test_a_command_of_another_package_runs(package):
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "confu", "acme"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert done.stdout == "hello from acme\n"
