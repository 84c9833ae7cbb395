"""Export to ONNX: one file a subset, so that a service that embeds images needs neither torch nor the other towers.

A file takes what the readers' `collate` gives and returns unit vectors; `onnx.json` beside them says which file has
which inputs, and holds the readers' settings.
"""

import copy
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

from confu.data.readers import Reader
from confu.files import write_json, written_whole
from confu.inference.embedder import Embedder
from confu.models import MultimodalModel
from confu.models.multimodal import stacked
from confu.plan import Subset

FORMAT = 1
INDEX, OUTPUT = "onnx.json", "vectors"
_MOST_BYTES = 2**31 - 2**24  # what one file of ONNX can hold, with room for the graph
_SIZES = ((2, 4), (3, 7), (1, 1), (5, 9))  # (items, length); the first two shape the export, all check it
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


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
        self.norms = nn.ModuleDict({name: model.norms[name] for name in subset})
        self.head = model.fusers[str(subset)] if subset.is_fused else model.projections[str(subset)]
        self.stacking = model.stacking(subset)
        self.singles = nn.ModuleDict({name: model.projections[name] for name in subset if self.stacking})
        self.subset, self.keys = subset, dict(keys)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Unit vectors (batch, dim)."""
        remaining = iter(tensors)
        features = []
        for name in self.subset:
            keys = self.keys[name]
            inputs = {key: next(remaining) for key in keys or ()}
            encoded = self.encoders[name](**inputs) if keys else self.encoders[name](next(remaining))
            features.append(self.norms[name](encoded))
        vectors = normalize(self.head(features) if self.subset.is_fused else self.head(features[0]), dim=-1)
        if not self.stacking:
            return vectors
        singles = [normalize(self.singles[name](one), dim=-1) for name, one in zip(self.subset, features)]
        return stacked(self.stacking, [vectors, *singles])


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
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'export to ONNX needs onnx, onnxscript and onnxruntime ({error}): pip install "contrastive-fusion[onnx]"'
        ) from error
    from rich.console import Console
    from rich.progress import track

    folder, requested = Path(folder), embedder.subsets if subsets is None else [Subset.parse(one) for one in subsets]
    for subset in requested:
        if subset not in embedder.subsets:
            raise ValueError(f"this model embeds {', '.join(map(str, embedder.subsets))}, not {subset}")
    device = next(embedder.model.parameters()).device
    model = embedder.model if device.type == "cpu" else copy.deepcopy(embedder.model).cpu()
    ordered = [subset for subset in embedder.subsets if subset in requested]
    console = Console(file=sys.stderr)
    shown = progress and console.is_terminal
    with torch.no_grad():
        towers = [
            _export(model.eval(), embedder.readers, subset, folder, tolerance, onnxruntime)
            for subset in track(ordered, "exporting", console=console, transient=True, disable=not shown)
        ]
    index = [
        {"subset": str(one.subset), "file": one.path.name, "inputs": one.inputs, "difference": one.difference}
        for one in towers
    ]
    names = {name for subset in ordered for name in subset}
    readers = {name: reader.settings for name, reader in embedder.readers.items() if name in names}
    write_json(folder / INDEX, {"format": FORMAT, "dim": embedder.dim, "towers": index, "readers": readers})
    return towers


def _export(
    model: MultimodalModel,
    readers: Mapping[str, Reader],
    subset: Subset,
    folder: Path,
    tolerance: float,
    runtime: Any,
) -> OnnxTower:
    samples: list[dict[str, Tensor]] = []
    keys: dict[str, list[str] | None] = {}
    for number, length in _SIZES:
        tensors: dict[str, Tensor] = {}  # `image` for a tensor, `text.input_ids` for one of a dict
        for seed, name in enumerate(subset):
            reader = readers[name]
            values = reader.collate([reader.read(one) for one in sample_sources(reader, number, length, seed)])
            keys[name] = list(values) if isinstance(values, dict) else None
            tensors |= {f"{name}.{k}": one for k, one in values.items()} if isinstance(values, dict) else {name: values}
        samples.append(tensors)
    first, second = samples[:2]
    tower = Tower(model, subset, keys).eval()
    size = sum(weight.nbytes for weight in tower.state_dict().values())
    if size > _MOST_BYTES:
        raise ValueError(f"the tower of {subset} has {size / 2**30:.1f} GiB of weights; a file of ONNX holds at most 2")
    # A size that differs between two samples may differ in use.
    free = {
        name: [axis for axis, size in enumerate(one.shape) if size != second[name].shape[axis]]
        for name, one in first.items()
    }
    path = folder / f"{subset}.onnx"
    with written_whole(path) as temporary:
        _write_graph(tower, first, free, temporary)
        session = runtime.InferenceSession(temporary.read_bytes(), providers=["CPUExecutionProvider"])
        difference = max(_difference(session, tower, sample) for sample in samples)
        if not difference <= tolerance:  # also if it is no number
            raise ValueError(
                f"{path} was not written: its vectors differ from torch's by {difference:.2g}, more than the tolerance "
                f"of {tolerance:.2g}"
            )
    inputs: dict[str, list[int | str]] = {
        name: [("length" if axis else "batch") if axis in free[name] else size for axis, size in enumerate(x.shape)]
        for name, x in first.items()
    }
    return OnnxTower(subset, path, inputs, difference)


def _write_graph(tower: Tower, sample: Mapping[str, Tensor], free: Mapping[str, Sequence[int]], file: Path) -> None:
    """Capture the graph of a tower with the sizes of `free` left open, and translate it into ONNX."""
    inputs = tuple(sample.values())
    shapes = (tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free.values()),)
    with _quiet():
        try:
            with _SampleLength():
                try:
                    program = torch.export.export(tower, inputs, dynamic_shapes=shapes, strict=False)
                except GuardOnDataDependentSymNode:
                    # An encoder looks at its inputs, e.g. whether a mask is empty: follow the way that the sample
                    # takes. Whether it is the right one for inputs of other sizes is checked with onnxruntime.
                    program = torch.export.draft_export(tower, inputs, dynamic_shapes=shapes, strict=False)
            torch.onnx.export(
                program,
                f=file,
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=list(sample),
                output_names=[OUTPUT],
            )
        except Exception as error:  # whatever an encoder's code, or the translation of an operator, raises
            # Of a translation that failed, the cause names the operator.
            reason = (error.__cause__ or error) if isinstance(error, torch.onnx.OnnxExporterError) else error
            text = " ".join(str(reason).split())[:400]
            raise ValueError(
                f"the tower of {tower.subset} cannot be exported ({type(reason).__name__}: {text}). To export the "
                "others, name them as subsets"
            ) from error


class _SampleLength(TorchFunctionMode):
    """`len(tensor)` of a symbolic size is that of the sample: an encoder asks whether it has rows, which fixes nothing.

    Active in this thread and block only.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__len__ and args[0].ndim and isinstance(size := args[0].shape[0], torch.SymInt):
            return int(size.node.hint)
        return func(*args, **(kwargs or {}))


def _difference(session: Any, tower: Tower, sample: Mapping[str, Tensor]) -> float:
    try:
        (vectors,) = session.run([OUTPUT], {name: tensor.numpy() for name, tensor in sample.items()})
    except Exception as error:  # onnxruntime's own, of several kinds
        sizes = {name: tuple(tensor.shape) for name, tensor in sample.items()}
        raise ValueError(
            f"the exported tower does not run for inputs of other sizes than it was exported with, {sizes}: an encoder "
            f"fixes a size, e.g. by range(len(values)) in place of values.shape[0] ({error})"
        ) from error
    return float((torch.from_numpy(vectors) - tower(*sample.values())).abs().max())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's messages about packages that are not needed and ways tried; the outcome is checked."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        # Where a first way fails, torch prints the graph that it had until then.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def sample_sources(reader: Reader, number: int, length: int, seed: int = 0) -> list[Any]:
    """Made-up sources that a reader takes; of kinds whose items differ in length, `length` (1 to 10) is the longest.

    >>> from confu.data.readers import build_reader
    >>> sample_sources(build_reader({"kind": "words", "vocabulary": ["one"]}), number=2, length=3)
    ['one two three', 'one two']
    """
    random, settings, kind = np.random.default_rng(seed), reader.settings, reader.modality_kind

    def sample(steps: int) -> Any:
        return [one(steps) for _ in range(steps)] if settings.get("list") == "mean" else one(steps)

    def one(steps: int) -> Any:
        if kind == "image":
            return random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        if kind == "video":
            return random.integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
        if kind == "audio":
            samples = int(settings["rate"] * (0.4 + 0.1 * steps))
            return random.uniform(-0.5, 0.5, samples).astype(np.float32), settings["rate"]
        if kind == "text":
            return " ".join(_WORDS[:steps])
        if kind == "vector":
            return random.normal(size=settings["dim"]).astype(np.float32)
        if kind == "sequence":
            return random.normal(size=(steps, settings["dim"])).astype(np.float32)
        if kind == "number":
            return float(random.normal())
        if kind == "table":
            makers = {
                "category": lambda column: str(random.choice([*column["values"], "other"])),
                "boolean": lambda column: bool(random.integers(2)),
                "date": lambda column: "2024-05-31",
                "number": lambda column: float(random.normal(column["mean"], column["std"])),
            }
            return {name: makers[column["kind"]](column) for name, column in settings["columns"].items()}
        raise ValueError(f"there is no made-up source for a reader of the kind {kind!r}; export another subset")

    return [sample(max(1, length - item)) for item in range(number)]
