"""Whether a module can run under autocast on its device.

Some kernels exist in a lower precision on some machines only: torch's LSTM, for one, has no bfloat16 on a CPU without
AVX-512. Training asks here first, so that the answer is one line and not an error from within a step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def autocast_error(
    module: nn.Module, inputs: Tensor | Mapping[str, Tensor], dtype: torch.dtype = torch.bfloat16
) -> str:
    """Why a module does not run under autocast, from running it once forward and, on a CPU, backward; "" if it does.

    The module is in evaluation mode meanwhile and is left as it was; nothing is added to gradients.

    Args:
        module: it returns a tensor.
        inputs: a tensor or keywords, as the module takes them, on its device; a row or two will do.
        dtype: of autocast.

    Raises:
        RuntimeError: the module's own, if it fails without autocast too.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        _run(module, inputs, dtype)
    except RuntimeError as error:
        _run(module, inputs, None)
        return str(error).split(". ")[0]
    finally:
        for part, training in modes:
            part.training = training
    return ""


def supports_autocast(
    module: nn.Module, inputs: Tensor | Mapping[str, Tensor], dtype: torch.dtype = torch.bfloat16
) -> bool:
    """Whether a module runs under autocast, see `autocast_error`."""
    return not autocast_error(module, inputs, dtype)


def _run(module: nn.Module, inputs: Tensor | Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with torch.enable_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        # By `forward`: a compiled module shall not be compiled for these shapes.
        output = module.forward(inputs) if isinstance(inputs, Tensor) else module.forward(**inputs)
    # A GPU's kernels are there in both directions, and cuDNN's LSTM has no backward in evaluation mode.
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if device.type == "cpu" and trained and output.requires_grad:
        torch.autograd.grad(output.float().sum(), trained, allow_unused=True)
