"""Embedding a data set: the same at any batch size, and the model is left as it was."""

import json

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from confu.inference import embed
from confu.plan import Plan, Subset
from confu.types import Batch, Embeddings, Inputs

IMAGE, AUDIO, BOTH = Subset("image"), Subset("audio"), Subset("image", "audio")


class TinyModel(nn.Module):
    """One linear layer and dropout a modality; a fused subset is the sum."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.plan = Plan.parse(["image ~ text", "audio ~ text", "image+audio ~ text"])
        self.layers = nn.ModuleDict({name: nn.Linear(6, 4) for name in self.plan.modalities})
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.grad_was_on = None

    def forward(self, batch, subsets=None):
        self.grad_was_on = torch.is_grad_enabled()
        features = {}
        for name, inputs in batch.inputs.items():
            features[name] = self.dropout(self.layers[name](inputs.values))[inputs.rows.clamp(min=0)]
        vectors = {subset: normalize(sum(features[name] for name in subset), dim=-1) for subset in subsets}
        return Embeddings(vectors, {name: inputs.present for name, inputs in batch.inputs.items()})


class TinyData:
    """Rows of which every third lacks its sound."""

    def __init__(self, n=23, modalities=("image", "audio"), labels=True):
        generator = torch.Generator().manual_seed(1)
        self.modalities = modalities
        self.values = {name: torch.randn(n, 6, generator=generator) for name in modalities}
        self.labels = torch.arange(n) % 4 if labels else None
        self.ids = [f"row{i}" for i in range(n)]
        self.class_names = None

    def __len__(self):
        return len(self.ids)

    def batch(self, indices):
        inputs = {}
        for name in self.modalities:
            rows = torch.arange(len(indices))
            if name == "audio":
                rows = torch.where(indices % 3 == 0, -1, rows)
            inputs[name] = Inputs(self.values[name][indices], rows)
        labels = None if self.labels is None else self.labels[indices]
        return Batch(inputs, [self.ids[i] for i in indices], labels)


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 1000])
def test_the_batch_size_changes_nothing(batch_size):
    data, model = TinyData(), TinyModel()
    whole, parts = embed(model, data), embed(model, data, batch_size=batch_size)
    assert parts.ids == whole.ids == tuple(data.ids)
    assert torch.equal(parts.labels, data.labels)
    for subset in whole.subsets:
        torch.testing.assert_close(parts[subset], whole[subset], atol=1e-6, rtol=0)
        assert torch.equal(parts.complete[subset], whole.complete[subset])


def test_batches_are_embedded_as_a_data_set_is():
    data, model, rows = TinyData(), TinyModel(), []
    batches = (data.batch(part) for part in torch.arange(23).split(10))
    table, whole = embed(model, batches, [IMAGE, "audio+image"], advance=rows.append), embed(model, data)
    assert table.ids == whole.ids and rows == [10, 10, 3] and table.subsets == (IMAGE, BOTH)
    torch.testing.assert_close(table[BOTH], whole[BOTH], atol=1e-6, rtol=0)
    assert torch.equal(table.complete[BOTH], whole.complete[BOTH]) and torch.equal(table.labels, whole.labels)
    assert len(embed(model, [], [IMAGE])) == 0
    with pytest.raises(ValueError, match="subsets must be given for batches"):
        embed(model, [data.batch(torch.arange(3))])


def test_rows_without_a_modality_are_not_complete():
    table = embed(TinyModel(), TinyData())
    has_audio = torch.arange(23) % 3 != 0
    assert table.complete[IMAGE].all()
    assert torch.equal(table.complete[AUDIO], has_audio)
    assert torch.equal(table.complete[BOTH], has_audio)
    assert not table[BOTH][~has_audio].any()


def test_by_default_every_possible_subset_is_embedded():
    assert embed(TinyModel(), TinyData()).subsets == (IMAGE, AUDIO, BOTH)
    assert embed(TinyModel(), TinyData(modalities=("image",))).subsets == (IMAGE,)
    assert embed(TinyModel(), TinyData(), subsets=["audio+image"]).subsets == (BOTH,)


def test_the_model_is_left_as_it_was():
    model = TinyModel().train()
    model.frozen.eval()
    before = {name: module.training for name, module in model.named_modules()}
    first, second = embed(model, TinyData()), embed(model, TinyData())
    assert torch.equal(first[BOTH], second[BOTH])  # so dropout was off
    assert model.grad_was_on is False
    assert {name: module.training for name, module in model.named_modules()} == before

    class Broken(TinyData):
        def batch(self, indices):
            raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        embed(model, Broken())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_the_table_holds_plain_tensors_and_names(tmp_path):
    model = TinyModel().double().float()
    table = embed(model, TinyData(labels=False), model_name="tiny", progress=True)
    assert table.labels is None
    assert table.model == "tiny"
    assert Plan.from_dict(json.loads(table.plan)) == model.plan
    assert all(table[subset].dtype == torch.float32 and table[subset].device.type == "cpu" for subset in table.subsets)
    table[IMAGE].add_(1)  # an inference-mode tensor would refuse this


def test_the_table_keeps_how_the_model_s_method_compares():
    model = TinyModel()
    assert embed(model, TinyData()).score == "cosine"  # of a model that does not say
    model.score = "volume"
    assert embed(model, TinyData(), subsets=["image", "audio"]).score == "volume"


def test_bad_arguments_are_refused():
    model, data = TinyModel(), TinyData()
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        embed(model, data, batch_size=0)
    with pytest.raises(ValueError, match="no rows to embed"):
        embed(model, TinyData(n=0))
    with pytest.raises(ValueError, match=r"not trained to embed text\+audio; it embeds .*image\+audio"):
        embed(model, data, subsets=["audio+text"])
    with pytest.raises(ValueError, match="the data set has no text, which text needs; it has image, audio"):
        embed(model, data, subsets=[Subset("text")])
    with pytest.raises(ValueError, match="unknown modality 'depth'"):
        embed(model, data, subsets=["depth"])
    with pytest.raises(ValueError, match="nothing to embed"):
        embed(model, TinyData(modalities=("depth",)))
