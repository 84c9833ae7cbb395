"""Whether a module runs under autocast is found before training, and said in one line."""

import pytest
import torch
from torch import nn

from confu.nn.encoders import build_encoder
from confu.nn.precision import autocast_error, supports_autocast


class Refusing(nn.Module):
    """Runs in float32 only, forward or backward, as a network whose kernel a machine lacks."""

    def __init__(self, backward: bool):
        super().__init__()
        self.linear, self.backward = nn.Linear(3, 2), backward

    def forward(self, values, broken=False):
        output = self.linear(values)
        if broken:
            raise RuntimeError("broken in any precision")
        if output.dtype == torch.bfloat16:
            if not self.backward:
                raise RuntimeError("could not create a primitive descriptor")
            output.register_hook(self.refuse)
        return output

    def refuse(self, _gradient):
        raise RuntimeError("could not create a primitive descriptor")


@pytest.mark.parametrize("backward", [False, True])
def test_a_missing_kernel_is_known_before_training(backward):
    module, values = Refusing(backward).train(), torch.ones(2, 3)
    assert not supports_autocast(module, values)
    assert supports_autocast(module, values, torch.float16)
    assert autocast_error(module, {"values": values}) == "could not create a primitive descriptor"
    assert module.training
    assert module.linear.weight.grad is None


def test_an_error_of_any_precision_is_not_taken_for_it():
    with pytest.raises(RuntimeError, match="broken in any precision"):
        supports_autocast(Refusing(False), {"values": torch.ones(2, 3), "broken": torch.tensor(True)})


def test_probing_leaves_a_module_as_it_was():
    encoder = build_encoder({"kind": "conv", "channels": [4], "out_dim": 3}).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert supports_autocast(encoder, torch.randn(2, 1, 9, 9))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
