"""Encoders that a user might write, for the tests of the kind "custom" and of entry points; some of them wrong."""

from torch import nn

from confu.nn.encoders import EncoderRow, MLPEncoder


class Wing(nn.Module):
    """Two linear maps of the flattened input, the first of which may be frozen."""

    def __init__(self, width: int, in_dim: int = 4):
        super().__init__()
        self.out_dim = width
        self.inner = nn.Linear(in_dim, 8)
        self.output = nn.Linear(8, width)

    def forward(self, values=None, features=None):
        return self.output(self.features(values) if features is None else features)

    def features(self, values):
        return self.inner(values.flatten(1))


class FrozenWing(Wing):
    frozen, feature_dim, reader = True, 8, {"kind": "vector", "dim": 4}


def wing(width: int, in_dim: int = 4) -> nn.Module:
    return Wing(width, in_dim)


def frozen_wing() -> nn.Module:
    return FrozenWing(3)


def feather() -> nn.Module:
    return nn.Linear(4, 3)


def stone() -> int:
    return 3


number = 5


class Feather(MLPEncoder):
    """An encoder of another distribution."""

    def __init__(self, in_dim: int, out_dim: int = 8):
        super().__init__(in_dim, out_dim=out_dim)
        self.settings = {"kind": "feather", "in_dim": in_dim, "out_dim": out_dim}


FEATHER = EncoderRow("feather", "own_encoders:Feather", reads={"vector": {"in_dim": 5}}, sized_by="vector")
