"""The graph of a tower: captured with sizes that may differ."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.functional import normalize

from confu.models import MultimodalModel
from confu.nn import fusion_inputs
from confu.plan import Subset


class Tower(nn.Module):
    """From the inputs of a subset, as tensors in a row, to unit vectors (Eq. 1 and 4).

    Args:
        model: of which only what the subset needs is kept.
        subset: one of its plan.
        keys: modality -> the keywords of its encoder, or None if it takes one tensor.
    """

    def __init__(self, model: MultimodalModel, subset: Subset, keys: Mapping[str, Sequence[str] | None]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: model.encoders[name] for name in subset})
        self.head = model.fusers[str(subset)] if subset.is_fused else model.projections[str(subset)]
        self.subset, self.keys = subset, dict(keys)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Unit vectors (batch, dim)."""
        remaining = iter(tensors)
        features = []
        for name in self.subset:
            keys = self.keys[name]
            given = {key: next(remaining) for key in keys or ()}
            features.append(self.encoders[name](**given) if keys else self.encoders[name](next(remaining)))
        return normalize(self.head(features) if self.subset.is_fused else self.head(features[0]), dim=-1)


def captured(tower: Tower, inputs: tuple[Tensor, ...], free: Sequence[Sequence[int]]) -> torch.export.ExportedProgram:
    """The graph of a tower.

    Args:
        tower: in evaluation mode.
        inputs: a sample.
        free: for each of them, the axes whose sizes may differ in use.

    Raises:
        ValueError: if an encoder does what cannot be captured, or fixes a size.
    """
    shapes = (tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free),)
    with quiet(), _symbolic_sizes():
        try:
            try:
                return torch.export.export(tower, inputs, dynamic_shapes=shapes, strict=False)
            except GuardOnDataDependentSymNode:
                # An encoder looks at its inputs, e.g. whether a mask is empty: follow the way that the sample takes.
                # Whether it is the right one for inputs of other sizes is checked with onnxruntime.
                return torch.export.draft_export(tower, inputs, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # whatever an encoder's code leads torch to raise
            raise _refused(tower.subset, error) from error


def write_graph(
    program: torch.export.ExportedProgram, file: Path, subset: Subset, inputs: Sequence[str], output: str
) -> None:
    """Translate the graph of a subset into ONNX.

    Raises:
        ValueError: if it holds what ONNX has no word for.
    """
    with quiet():
        try:
            torch.onnx.export(
                program, f=file, dynamo=True, verbose=False, external_data=False, input_names=list(inputs),
                output_names=[output],
            )  # fmt: skip
        except Exception as error:  # the translation of each operator may raise its own
            raise _refused(subset, error.__cause__ or error) from error


def _refused(subset: Subset, error: BaseException) -> ValueError:
    told = " ".join(str(error).split())[:400]
    return ValueError(
        f"the tower of {subset} cannot be exported ({type(error).__name__}: {told}). To export the others, name them "
        "as subsets"
    )


@contextmanager
def _symbolic_sizes() -> Iterator[None]:
    """Let checks of sizes pass that would fix a size, or fail, where it is a symbol.

    The check of a fusion network puts sizes into a set, where symbols cannot be; and `len(tensor)`, which an encoder
    asks to see whether there are any rows, must be a number: it is that of the sample, and fixes nothing.
    """
    check, length = fusion_inputs.check_features, Tensor.__len__

    def hint(tensor: Tensor) -> int:
        size = tensor.shape[0] if tensor.ndim else 0
        return int(size.node.hint) if isinstance(size, torch.SymInt) else length(tensor)

    fusion_inputs.check_features = lambda features, in_dims: None
    Tensor.__len__ = hint  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        fusion_inputs.check_features, Tensor.__len__ = check, length


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's chatter: of packages that are not needed, and of ways tried; the outcome is checked."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        # Where a first way fails, torch prints the graph that it had until then.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
