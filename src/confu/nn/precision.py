"""Whether a module can run under autocast on its device.

Some kernels exist in a lower precision on some machines only: torch's LSTM, for one, has no bfloat16 on a CPU without
AVX-512. Training asks here first, so that the answer is one line and not an error from within a step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Inputs = Tensor | Mapping[str, Tensor]


def check_autocast(name: str, module: nn.Module, inputs: Inputs, dtype: torch.dtype = torch.bfloat16) -> None:
    """Refuse a module that does not run under autocast, see `supports_autocast`; `name` is for the message."""
    if not supports_autocast(module, inputs, dtype):
        precision, device = str(dtype).removeprefix("torch."), _device(module).type
        raise ValueError(
            f"{name}: {type(module).__name__} cannot run in {precision} on this {device} device, which has no "
            f"{precision} kernel for one of its layers; train in float32, or take another encoder"
        )


def supports_autocast(module: nn.Module, inputs: Inputs, dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether a module runs under autocast: found by running it once, forward and, on a CPU, backward.

    The module is in evaluation mode meanwhile and is left as it was; nothing is added to gradients.

    Args:
        module: on the device that matters; it returns a tensor.
        inputs: a tensor or keywords, as the module takes them; a row or two will do.
        dtype: of autocast.

    Raises:
        RuntimeError: the module's own, if it fails without autocast too.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        try:
            _run(module, inputs, dtype)
        except RuntimeError:
            _run(module, inputs, None)
            return False
        return True
    finally:
        for part, training in modes:
            part.training = training


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _run(module: nn.Module, inputs: Inputs, dtype: torch.dtype | None) -> None:
    device = _device(module)
    with torch.enable_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        if isinstance(inputs, Tensor):
            output = module(inputs.to(device))
        else:
            output = module(**{name: value.to(device) for name, value in inputs.items()})
    # A GPU's kernels are there in both directions, and cuDNN's LSTM has no backward in evaluation mode.
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if device.type == "cpu" and trained and output.requires_grad:
        torch.autograd.grad(output.float().sum(), trained, allow_unused=True)
