"""Export to ONNX: one file a subset, so that a service that embeds images needs neither torch nor the other towers.

A file takes what the readers' `collate` gives and returns unit vectors; `onnx.json` beside them says which file has
which inputs, and holds the readers' settings.
"""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from confu.files import write_json, written_whole
from confu.inference.embedder import Embedder
from confu.inference.onnx_graph import Tower, captured, write_graph
from confu.inference.samples import sample_sources
from confu.models import MultimodalModel
from confu.plan import Subset

FORMAT = 1
INDEX, OUTPUT = "onnx.json", "vectors"
_MOST_BYTES = 2**31 - 2**24  # what one file of ONNX can hold, with room for the graph
_SIZES = ((2, 4), (3, 7), (1, 1), (5, 9))  # (items, length); the first two shape the export, all check it


@dataclass(frozen=True)
class OnnxTower:
    """An exported subset.

    Attributes:
        subset: what it embeds.
        path: of the file.
        inputs: name -> shape, with a text for each size that may differ.
        difference: the largest between an element of its vectors and of torch's, on made-up items.
    """

    subset: Subset
    path: Path
    inputs: dict[str, list[int | str]]
    difference: float


def export_onnx(
    embedder: Embedder,
    folder: Path | str,
    subsets: Sequence[Subset | str] | None = None,
    tolerance: float = 1e-4,
    progress: bool = False,
) -> list[OnnxTower]:
    """Write `image.onnx`, `image+audio.onnx`, ...: the encoders of a subset with its projection or fusion network.

    The number of items may differ from call to call, and so may the length of texts and sequences. Each file is run
    with onnxruntime on made-up items of several sizes and compared with torch.

    Args:
        embedder: with the towers that are needed.
        folder: made if it is not there.
        subsets: which; all that the embedder has by default.
        tolerance: the largest difference of an element that is allowed.
        progress: draw a progress bar; a tower takes some seconds, a large transformer minutes.

    Returns:
        what was written, with the differences.

    Raises:
        ImportError: if onnx, onnxscript or onnxruntime are not installed.
        ValueError: if the embedder has no such subset, or what was exported differs from torch.
    """
    runtime = _onnx()
    folder, wanted = Path(folder), embedder.subsets if subsets is None else [Subset.parse(one) for one in subsets]
    for subset in wanted:
        if subset not in embedder.subsets:
            raise ValueError(f"this model embeds {', '.join(map(str, embedder.subsets))}, not {subset}")
    device = next(embedder.model.parameters()).device
    model = embedder.model if device.type == "cpu" else copy.deepcopy(embedder.model).cpu()
    ordered = [subset for subset in embedder.subsets if subset in wanted]
    console = Console(file=sys.stderr)
    shown = progress and console.is_terminal
    with torch.no_grad():
        towers = [
            _export(embedder, model.eval(), subset, folder, tolerance, runtime)
            for subset in track(ordered, "exporting", console=console, transient=True, disable=not shown)
        ]
    described = [
        {"subset": str(one.subset), "file": one.path.name, "inputs": one.inputs, "difference": one.difference}
        for one in towers
    ]
    names = {name for subset in ordered for name in subset}
    readers = {name: reader.settings for name, reader in embedder.readers.items() if name in names}
    write_json(folder / INDEX, {"format": FORMAT, "dim": embedder.dim, "towers": described, "readers": readers})
    return towers


def _export(
    embedder: Embedder, model: MultimodalModel, subset: Subset, folder: Path, tolerance: float, runtime: Any
) -> OnnxTower:
    samples = [_sample_inputs(embedder, subset, number, length) for number, length in _SIZES]
    keys = {name: list(values) if isinstance(values, dict) else None for name, values in samples[0].items()}
    rows = [_in_a_row(sample) for sample in samples]
    tower = Tower(model, subset, keys).eval()
    size = sum(weight.nbytes for weight in tower.state_dict().values())
    if size > _MOST_BYTES:
        raise ValueError(f"the tower of {subset} has {size / 2**30:.1f} GiB of weights; a file of ONNX holds at most 2")
    # A size that differs between the two samples may differ in use.
    free = {
        name: [axis for axis in range(tensor.ndim) if tensor.shape[axis] != rows[1][name].shape[axis]]
        for name, tensor in rows[0].items()
    }
    path = folder / f"{subset}.onnx"
    with written_whole(path) as temporary:
        program = captured(tower, tuple(rows[0].values()), list(free.values()))
        write_graph(program, temporary, subset, list(rows[0]), OUTPUT)
        session = runtime.InferenceSession(temporary.read_bytes(), providers=["CPUExecutionProvider"])
        difference = max(_difference(session, tower, row) for row in rows)
        if not difference <= tolerance:  # also if it is no number
            raise ValueError(
                f"{path} was not written: its vectors differ from torch's by {difference:.2g}, more than the tolerance "
                f"of {tolerance:.2g}"
            )
    axes = ("batch", "length", "length", "length")
    inputs = {
        name: [axes[axis] if axis in free[name] else size for axis, size in enumerate(tensor.shape)]
        for name, tensor in rows[0].items()
    }
    return OnnxTower(subset, path, inputs, difference)


def _sample_inputs(embedder: Embedder, subset: Subset, number: int, length: int) -> dict[str, Any]:
    found = {}
    for seed, name in enumerate(subset):
        reader = embedder.readers[name]
        items = [reader.read(source) for source in sample_sources(reader, number, length, seed)]
        found[name] = reader.collate(items)
    return found


def _in_a_row(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """`image` for a tensor, `text.input_ids` for one of a dict."""
    found: dict[str, Tensor] = {}
    for name, values in inputs.items():
        found |= (
            {f"{name}.{key}": tensor for key, tensor in values.items()} if isinstance(values, dict) else {name: values}
        )
    return found


def _difference(session: Any, tower: Tower, row: Mapping[str, Tensor]) -> float:
    try:
        (ours,) = session.run([OUTPUT], {name: tensor.numpy() for name, tensor in row.items()})
    except Exception as error:  # onnxruntime's own, of several kinds
        sizes = {name: tuple(tensor.shape) for name, tensor in row.items()}
        raise ValueError(
            f"the exported tower does not run for inputs of other sizes than it was exported with, {sizes}: an encoder "
            f"fixes a size, e.g. by range(len(values)) in place of values.shape[0] ({error})"
        ) from error
    return float((torch.from_numpy(ours) - tower(*row.values())).abs().max())


def _onnx() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'export to ONNX needs onnx, onnxscript and onnxruntime ({error}): pip install "contrastive-fusion[onnx]"'
        ) from error
    return onnxruntime
