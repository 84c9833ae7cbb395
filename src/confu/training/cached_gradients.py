r"""Batches larger than memory: the gradient of a whole batch's loss, with a chunk of its rows in a graph at a time.

A contrastive loss needs the embeddings of all rows at once, but not the graphs that made them. With embeddings
$z = f_\theta(x)$ of chunks $k$,

$$\nabla_\theta L = \sum_k \left(\frac{\partial z_k}{\partial \theta}\right)^{\!\top} \frac{\partial L}{\partial z_k}$$

1. embed chunk after chunk without a graph, and keep the state of the random numbers before each;
2. take the loss of all embeddings, and its gradient with respect to them;
3. embed each chunk again, with a graph and the same random numbers, and go back through it with its rows' gradient.

The last chunk keeps the graph of its first pass: k chunks cost k backward and 2k - 1 forward passes. One chunk is a
plain step. Batch norm takes the statistics of a chunk, not of the batch, in both passes alike.

Reference: Gao et al. 2021, arXiv 2101.06983 (GradCache), section 3.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor, nn

from confu.losses import LossOutput
from confu.plan import Subset
from confu.types import Batch, Embeddings, Inputs

Autocast = Callable[[], AbstractContextManager[object]]


def cached_backward(
    objective: nn.Module,
    batch: Batch,
    chunk: int,
    device: torch.device | None = None,
    autocast: Autocast = nullcontext,
) -> LossOutput:
    """Add to every `grad` what `objective(batch).total.backward()` would, with at most `chunk` rows in a graph.

    Under `torch.no_grad` only the loss is computed.

    Args:
        objective: has a `model` (`Batch` to `Embeddings`) and `loss_of` (`Embeddings` to `LossOutput`); not wrapped.
        batch: of this process; its inputs are moved to the device chunk by chunk.
        chunk: most rows that are encoded at once.
        device: of the model; None is that of its first parameter.
        autocast: makes the context in which the model runs, anew for each chunk, as autocast must not keep weights
            that it cast where there was no graph.

    Returns:
        The loss of the whole batch (over all processes), without a graph. Gradients are those of this process, to be
        averaged over all.

    Raises:
        ValueError: if chunk is below 1, or the objective has no `model` or `loss_of`.
    """
    model, loss_of = getattr(objective, "model", None), getattr(objective, "loss_of", None)
    if not isinstance(model, nn.Module) or loss_of is None:
        raise ValueError(
            "chunk needs an objective that has a `model` and can tell the loss from embeddings (`loss_of`); "
            f"{type(objective).__name__} has not both. Leave chunk at None for it"
        )
    has_graph = torch.is_grad_enabled()
    device = device or next(model.parameters()).device
    if (with_contents := getattr(objective, "with_contents", None)) is not None:
        batch = with_contents(batch)
    *earlier, last = spans(len(batch), chunk)
    buffers = RunningBuffers(model) if earlier and has_graph else None  # one chunk is a plain step
    random_states: list[RandomState] = []
    chunks: list[Embeddings] = []
    for start, stop in (*earlier, last):
        random_states.append(RandomState(device))
        if buffers is not None:
            buffers.rewind()
        with torch.set_grad_enabled(has_graph and (start, stop) == last), autocast():
            chunks.append(model(slice_batch(batch, start, stop).to(device)))
        if buffers is not None:
            buffers.collect(stop - start)
    embeddings = join_embeddings(chunks, None if batch.groups is None else batch.groups.to(device))
    if not has_graph:
        return loss_of(embeddings)
    graph_of_last = chunks.pop()
    chunks.clear()
    for vectors in embeddings.vectors.values():
        vectors.requires_grad_()
    out = loss_of(embeddings)
    out.total.backward()
    # Before any buffer is put back: a graph that has read one refuses to go back once it was written to.
    _backward(graph_of_last, embeddings, *last)
    del graph_of_last
    after = RandomState(device)
    for state, (start, stop) in zip(random_states, earlier):
        assert buffers is not None
        buffers.rewind()
        state.restore()
        with autocast():
            again = model(slice_batch(batch, start, stop).to(device))
        _backward(again, embeddings, start, stop)
        del again  # or its last tensors would stand beside the next chunk's
    if buffers is not None:
        buffers.finish()
        after.restore()
    return replace(out, total=out.total.detach())


def _backward(graph: Embeddings, embeddings: Embeddings, start: int, stop: int) -> None:
    """Go back through a chunk; what the loss did not use, or no weight made, has nothing to go back through."""
    pairs = [
        (vectors, embeddings.vectors[subset].grad)
        for subset, vectors in graph.vectors.items()
        if embeddings.vectors[subset].grad is not None and vectors.requires_grad
    ]
    if pairs:
        torch.autograd.backward(
            [vectors for vectors, _ in pairs], [grad[start:stop] for _, grad in pairs if grad is not None]
        )


def spans(rows: int, chunk: int) -> list[tuple[int, int]]:
    """(start, stop) of each chunk: as few of at most `chunk` rows as can be, at least one, as equal as can be.

    Equal, so that no chunk is left with a row or two: batch norm needs several.

    >>> spans(10, 4)
    [(0, 4), (4, 7), (7, 10)]

    Raises:
        ValueError: unless chunk is at least 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk is the number of rows that are encoded at once and must be at least 1; got {chunk}")
    count = max(1, -(-rows // chunk))
    size, larger = divmod(rows, count)
    return list(pairwise(number * size + min(number, larger) for number in range(count + 1)))


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Rows `start` to `stop` of a batch, with only the inputs that they have, not copied where these adjoin."""
    if (start, stop) == (0, len(batch)):
        return batch
    return Batch(
        {name: _slice_inputs(inputs, start, stop) for name, inputs in batch.inputs.items()},
        batch.ids[start:stop],
        None if batch.labels is None else batch.labels[start:stop],
        None if batch.groups is None else batch.groups[start:stop],
        {name: numbers[start:stop] for name, numbers in batch.contents.items()},
    )


def _slice_inputs(inputs: Inputs, start: int, stop: int) -> Inputs:
    rows = inputs.rows[start:stop]
    present = rows >= 0
    used, own = torch.unique(rows[present], return_inverse=True)
    places = torch.full_like(rows, -1)
    places[present] = own.to(rows.dtype)
    adjoin = len(used) > 0 and int(used[-1] - used[0]) + 1 == len(used)

    def take(values: Tensor) -> Tensor:
        return values[int(used[0]) : int(used[-1]) + 1] if adjoin else values[used.to(values.device)]

    values = inputs.values
    taken = {name: take(value) for name, value in values.items()} if isinstance(values, dict) else take(values)
    return Inputs(taken, places)


def join_embeddings(chunks: list[Embeddings], groups: Int[Tensor, " batch"] | None) -> Embeddings:
    """The embeddings of a whole batch from those of its chunks, in order: (batch, dim) leaves without a history."""
    vectors: dict[Subset, Tensor] = {
        subset: torch.cat([chunk.vectors[subset].detach() for chunk in chunks]) for subset in chunks[0].vectors
    }
    sizes = [len(next(iter(chunk.vectors.values()))) for chunk in chunks]
    masks: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for chunk in chunks for name in chunk.present):
        # A chunk whose rows all have a modality has no mask of it.
        some = next(chunk.present[name] for chunk in chunks if name in chunk.present)
        masks[name] = torch.cat(
            [chunk.present.get(name, some.new_ones(size)) for chunk, size in zip(chunks, sizes, strict=True)]
        )
    contents = {name: torch.cat([chunk.contents[name] for chunk in chunks]) for name in chunks[0].contents}
    return Embeddings(vectors, masks, groups, contents)


class RandomState:
    """The state of the random numbers of the CPU and of a device, to draw the same ones again.

    >>> state = RandomState(torch.device("cpu"))
    >>> first = torch.rand(2)
    >>> state.restore()
    >>> torch.equal(torch.rand(2), first)
    True
    """

    def __init__(self, device: torch.device) -> None:
        self._cpu = torch.get_rng_state()
        self._module = None if device.type == "cpu" else torch.get_device_module(device)
        self._which = () if device.type == "mps" else (device,)  # of MPS there is one
        self._device = None if self._module is None else self._module.get_rng_state(*self._which)

    def restore(self) -> None:
        """Go back to that state."""
        torch.set_rng_state(self._cpu)
        if self._module is not None:
            self._module.set_rng_state(self._device, *self._which)


class RunningBuffers:
    """The buffers of a model over the chunks of one step, so that they move once, as for one batch.

    Each chunk starts from the buffers that the step began with; in the end a buffer of floats is the mean of what the
    chunks made of it, weighted by their rows. A running mean m ← (1 - a) m + a s of statistics s thus becomes
    (1 - a) m + a (mean of s), one update. Counters are as after one chunk. Chunks that did not touch a buffer (none of
    their rows has the modality) do not count for it.
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
        """Take in what a chunk of so many rows made of them."""
        now = dict(self._model.named_buffers())
        names = [name for name, value in self._before.items() if now[name].shape == value.shape]
        if not names:
            return
        moved = torch.stack([(now[name] != self._before[name]).any() for name in names]).tolist()
        for name in (name for name, has_moved in zip(names, moved) if has_moved):
            value = now[name]
            count = self._rows[name] = self._rows.get(name, 0) + rows
            mean = self._means.get(name)
            if mean is None or not value.is_floating_point():
                self._means[name] = value.detach().clone()
            else:  # a step towards the new value: a buffer that all chunks make the same stays exactly that
                mean += (value.detach() - mean) * (rows / count)

    def finish(self) -> None:
        """Write what the step makes of them."""
        self._write(self._before | self._means)

    def _write(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                if name in values and values[name].shape == buffer.shape:
                    buffer.copy_(values[name])
