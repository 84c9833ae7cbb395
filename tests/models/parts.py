"""A small model of three modalities, and a data set in which captions repeat and some rows lack a modality."""

import torch
from torch import nn

from confu.data import ArrayDataset, CaptionColumn, SequenceColumn, TensorColumn, WordVocabulary
from confu.models import MultimodalModel
from confu.nn.encoders import MLPEncoder, SequenceEncoder, TokenEncoder
from confu.plan import Plan, confu_plan

NAMES = ("image", "audio", "text")
CAPTIONS = ["a one", "a photo of a two", "the digit three"]
VOCABULARY = WordVocabulary.from_texts(CAPTIONS)
# Rows by what they lack; 3 lacks two modalities.
NO_AUDIO, NO_TEXT = {1, 3, 6}, {3, 4, 9}


def dataset(rows: int = 12, missing: bool = True, deduplicate: bool = True) -> ArrayDataset:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(rows, 6, generator=generator)
    lengths = torch.randint(1, 6, (rows,), generator=generator).tolist()
    audio = [
        None if missing and row in NO_AUDIO else torch.randn(length, 4, generator=generator)
        for row, length in enumerate(lengths)
    ]
    caption = torch.tensor([-1 if missing and row in NO_TEXT else row % 3 for row in range(rows)])
    columns = {
        "image": TensorColumn(image),
        "audio": SequenceColumn(audio),
        "text": CaptionColumn(CAPTIONS, caption, VOCABULARY, deduplicate),
    }
    return ArrayDataset(columns, torch.arange(rows) % 3)


def encoders() -> dict[str, nn.Module]:
    return {
        "image": MLPEncoder(6, [8], 5),
        "audio": SequenceEncoder(4, width=6, heads=2, layers=1, hidden_dim=8, dropout=0.0),
        "text": TokenEncoder(len(VOCABULARY), width=8, heads=2, layers=1),
    }


def model(plan: Plan | None = None, seed: int = 0, **settings) -> MultimodalModel:
    torch.manual_seed(seed)
    plan = confu_plan(NAMES) if plan is None else plan
    chosen = {name: encoder for name, encoder in encoders().items() if name in plan.modalities}
    return MultimodalModel(plan, chosen, **{"dim": 7, "fusion_dim": 9, **settings})


def complete_rows(*names: str, rows: int = 12) -> list[int]:
    lacking = {"image": set(), "audio": NO_AUDIO, "text": NO_TEXT}
    return [row for row in range(rows) if not any(row in lacking[name] for name in names)]


class Counted(nn.Module):
    """An encoder that keeps what it was called with."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.out_dim, self.seen = inner, inner.out_dim, []

    def forward(self, *tensors, **named):
        self.seen.append(next(iter([*tensors, *named.values()])))
        return self.inner(*tensors, **named)


def counted(plan: Plan | None = None, **settings) -> tuple[MultimodalModel, dict[str, Counted]]:
    torch.manual_seed(0)
    wrapped = {name: Counted(encoder) for name, encoder in encoders().items()}
    return MultimodalModel(
        confu_plan(NAMES) if plan is None else plan, wrapped, dim=7, fusion_dim=9, **settings
    ), wrapped
