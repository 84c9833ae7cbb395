"""What a model carries from one forward pass to the next: random numbers and running statistics."""

from typing import Any

import torch
from torch import Tensor, nn


class RandomState:
    """Where the random numbers of the CPU and of a device stand, to draw the same ones again.

    >>> state = RandomState(torch.device("cpu"))
    >>> first = torch.rand(2)
    >>> state.restore()
    >>> torch.equal(torch.rand(2), first)
    True

    Args:
        device: where dropout is drawn.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._own = None if device.type == "cpu" else self._module().get_rng_state(*self._which())

    def restore(self) -> None:
        """Go back to that state."""
        torch.set_rng_state(self._cpu)
        if self._own is not None:
            self._module().set_rng_state(self._own, *self._which())

    def _module(self) -> Any:
        return torch.get_device_module(self._device)

    def _which(self) -> tuple[torch.device, ...]:
        return () if self._device.type == "mps" else (self._device,)  # of which there is one


class RunningState:
    """The buffers of a model over the parts of one step, so that they move once, as for one batch.

    Each part starts from the buffers that the step began with; in the end a buffer of floats is the mean of what the
    parts made of it, weighted by their rows. A running mean m ← (1 - a) m + a s of statistics s thus becomes
    (1 - a) m + a (mean of s), one update. Counters are as after one part. Parts that did not touch a buffer (none of
    their rows has the modality) do not count for it.

    Args:
        model: whose buffers these are.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: value.detach().clone() for name, value in model.named_buffers()} if model.training else {}
        self._means: dict[str, Tensor] = {}
        self._rows: dict[str, int] = {}

    def rewind(self) -> None:
        """Put back the buffers that the step began with."""
        self._write(self._before)

    def collect(self, rows: int) -> None:
        """Take in what a part of so many rows made of them."""
        now = dict(self._model.named_buffers())
        names = [name for name, value in self._before.items() if now[name].shape == value.shape]
        if not names:
            return
        moved = torch.stack([(now[name] != self._before[name]).any() for name in names]).tolist()
        for name in (name for name, one in zip(names, moved) if one):
            value = now[name]
            count = self._rows[name] = self._rows.get(name, 0) + rows
            mean = self._means.get(name)
            if mean is None or not value.is_floating_point():
                self._means[name] = value.detach().clone()
            else:  # a step towards the new value: a buffer that all parts make the same stays exactly that
                mean += (value.detach() - mean) * (rows / count)

    def finish(self) -> None:
        """Write what the step makes of them."""
        self._write(self._before | self._means)

    def _write(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                if name in values and values[name].shape == buffer.shape:
                    buffer.copy_(values[name])
