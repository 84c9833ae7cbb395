r"""Batches larger than memory: the gradient of a whole batch's loss, with only a part of its rows in a graph at a time.

A contrastive loss needs the embeddings of all rows at once, but not the graphs that made them. With embeddings
$z = f_\theta(x)$ of parts $k$,

$$\nabla_\theta L = \sum_k \left(\frac{\partial z_k}{\partial \theta}\right)^{\!\top} \frac{\partial L}{\partial z_k}$$

1. embed part after part without a graph, and remember where the random numbers stood before each;
2. take the loss of all embeddings, and its gradient with respect to them;
3. embed each part again, with a graph and the same random numbers, and go back through it with its rows' gradient.

The last part keeps the graph of its first pass: k parts cost k backward and 2k - 1 forward passes. One part is a plain
step. Batch norm takes the statistics of a part, not of the batch, in both passes alike.

Reference: Gao et al. 2021, arXiv 2101.06983 (GradCache), section 3.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from confu.losses import LossOutput
from confu.plan import Subset
from confu.training.averaging import average_over_processes, check_whole_models
from confu.training.chunks import joined, part_of, spans
from confu.training.replay_state import RandomState, RunningState
from confu.types import Batch, Embeddings

Precision = Callable[[], AbstractContextManager[object]]


def cached_step(
    objective: nn.Module, batch: Batch, chunk: int, accelerator: Accelerator, precision: Precision = nullcontext
) -> LossOutput:
    """The gradient of a batch over all processes: `cached_backward` on each, and one exchange in the end.

    Args:
        objective: not wrapped, the same on all processes.
        batch: the rows of this process.
        chunk: most rows that a process encodes at once.
        accelerator: knows the device and the other processes.
        precision: see `cached_backward`.

    Raises:
        ValueError: as `cached_backward`, or if the weights are spread over processes.
    """
    check_whole_models(accelerator)
    out = cached_backward(objective, batch, chunk, accelerator.device, precision)
    average_over_processes(objective, accelerator)
    return out


def cached_backward(
    objective: nn.Module,
    batch: Batch,
    chunk: int,
    device: torch.device | None = None,
    precision: Precision = nullcontext,
) -> LossOutput:
    """Add to every `grad` what `objective(batch).total.backward()` would, with at most `chunk` rows in a graph.

    Args:
        objective: has a `model` (`Batch` to `Embeddings`) and `loss_of` (`Embeddings` to `LossOutput`).
        batch: of this process; its inputs are moved to the device part by part.
        chunk: most rows that are encoded at once.
        device: of the model; None is that of its first parameter.
        precision: makes the context in which the model runs, anew for each part, as autocast must not keep weights
            that it cast where there was no graph.

    Returns:
        The loss of the whole batch (over all processes), without a graph. Gradients are those of this process: see
        `cached_step`.

    Raises:
        ValueError: if chunk is below 1, or the objective has no `model` or `loss_of`.
    """
    model, loss_of = parts_of(objective)
    device = device or next(model.parameters()).device
    places = spans(len(batch), chunk)
    running = RunningState(model) if len(places) > 1 else None  # one part is a plain step
    states: list[RandomState] = []
    made: list[Embeddings] = []
    for number, (start, stop) in enumerate(places):
        states.append(RandomState(device))
        if running is not None and number > 0:
            running.rewind()
        with torch.set_grad_enabled(number == len(places) - 1), precision():
            made.append(model(part_of(batch, start, stop).to(device)))
        if running is not None:
            running.collect(stop - start)
    embeddings = joined(made, None if batch.groups is None else batch.groups.to(device))
    last = made.pop()
    made.clear()
    for vectors in embeddings.vectors.values():
        vectors.requires_grad_()
    out = loss_of(embeddings)
    out.total.backward()
    gradients = {subset: vectors.grad for subset, vectors in embeddings.vectors.items()}
    # Before any buffer is put back: a graph that has read one refuses to go back once it was written to.
    _backward(last, {subset: _rows(gradient, *places[-1]) for subset, gradient in gradients.items()})
    del last
    after = RandomState(device)
    for state, (start, stop) in zip(states[:-1], places[:-1]):
        assert running is not None
        running.rewind()
        state.restore()
        with precision():
            again = model(part_of(batch, start, stop).to(device))
        _backward(again, {subset: _rows(gradient, start, stop) for subset, gradient in gradients.items()})
        del again  # or its last tensors would stand beside the next part's
    if running is not None:
        running.finish()
        after.restore()
    return replace(out, total=out.total.detach())


def cached_loss(
    objective: nn.Module,
    batch: Batch,
    chunk: int,
    device: torch.device | None = None,
    precision: Precision = nullcontext,
) -> LossOutput:
    """The loss of a batch without a gradient, with at most `chunk` rows encoded at once; arguments as above."""
    model, loss_of = parts_of(objective)
    device = device or next(model.parameters()).device
    with torch.no_grad():
        made: list[Embeddings] = []
        for start, stop in spans(len(batch), chunk):
            with precision():
                made.append(model(part_of(batch, start, stop).to(device)))
        return loss_of(joined(made, None if batch.groups is None else batch.groups.to(device)))


def parts_of(objective: nn.Module) -> tuple[nn.Module, Callable[[Embeddings], LossOutput]]:
    """The model of an objective, and the loss of the whole batch from the embeddings of this process's rows.

    Raises:
        ValueError: if it has not both.
    """
    model, loss_of = getattr(objective, "model", None), getattr(objective, "loss_of", None)
    if not isinstance(model, nn.Module) or loss_of is None:
        raise ValueError(
            "chunk needs an objective that has a `model` and can tell the loss from embeddings (`loss_of`); "
            f"{type(objective).__name__} has not both. Leave chunk at None for it"
        )
    return model, loss_of


def _rows(gradient: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if gradient is None else gradient[start:stop]


def _backward(embeddings: Embeddings, gradients: dict[Subset, Tensor | None]) -> None:
    """Go back through a part; what the loss did not use, or no weight made, has nothing to go back through."""
    pairs = [
        (vectors, gradients[subset])
        for subset, vectors in embeddings.vectors.items()
        if gradients[subset] is not None and vectors.requires_grad
    ]
    if pairs:
        torch.autograd.backward([vectors for vectors, _ in pairs], [gradient for _, gradient in pairs])
