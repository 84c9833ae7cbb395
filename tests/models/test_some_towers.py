"""A model of which only some towers are loaded."""

import pytest
import torch
from safetensors import safe_open

from confu.models import MultimodalModel, checkpoint, load_model, load_weights, save_model
from confu.nn.encoders import MLPEncoder
from confu.plan import Plan, disjoint_plan
from models.parts import NAMES, dataset, model

ROWS = torch.arange(12)


def names(subsets):
    return [str(subset) for subset in subsets]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["image"], ["image"]),
        (["audio", "image"], ["image", "audio", "image+audio"]),
        (list(NAMES), ["image", "audio", "text", "image+audio", "image+text", "audio+text"]),
    ],
)
def test_what_is_loaded_embeds_as_the_whole_model_does(tmp_path, asked, expected):
    net, batch = model().eval(), dataset().batch(ROWS)
    save_model(net, tmp_path)
    some = load_model(tmp_path, modalities=asked)
    assert names(some.subsets) == expected
    assert set(some.encoders) == set(asked)
    assert set(some.fusers) == {name for name in expected if "+" in name}
    whole, part = net(batch), some(batch)
    assert names(part) == expected
    assert all(torch.equal(part[subset], whole[subset]) for subset in expected)
    assert [some.supports(subset) for subset in net.plan.subsets] == [str(s) in expected for s in net.plan.subsets]
    assert some.plan == net.plan


def test_the_other_modalities_are_not_asked_of_the_batch(tmp_path):
    save_model(model(), tmp_path)
    some, batch = load_model(tmp_path, modalities=["text"]), dataset().batch(ROWS)
    del batch.inputs["image"], batch.inputs["audio"]
    assert names(some(batch)) == ["text"]
    with pytest.raises(ValueError, match=r"no tower for audio, .* audio; load it with modalities=\['audio', 'text'"):
        some(batch, ["audio"])
    with pytest.raises(ValueError, match=r"no tower for image, and cannot embed image\+text"):
        some(batch, ["image+text"])


def test_only_the_weights_of_those_towers_are_read(tmp_path, monkeypatch):
    save_model(model(), tmp_path)
    read = []

    class Watched:
        def __init__(self, *args, **named):
            self.file = safe_open(*args, **named)

        def __enter__(self):
            self.opened = self.file.__enter__()
            return self

        def __exit__(self, *error):
            self.file.__exit__(*error)

        def get_tensor(self, name):
            read.append(name)
            return self.opened.get_tensor(name)

        def __getattr__(self, name):
            return getattr(self.opened, name)

    monkeypatch.setattr(checkpoint, "safe_open", Watched)
    some = load_model(tmp_path, modalities=["audio", "text"])
    assert sorted(read) == sorted(some.state_dict())
    assert not any("image" in name for name in read)


def test_a_part_that_is_saved_comes_back_as_that_part(tmp_path):
    net, batch = model().eval(), dataset().batch(ROWS)
    save_model(net, tmp_path)
    save_model(load_model(tmp_path, modalities=["image", "text"]), tmp_path / "part")
    part = load_model(tmp_path / "part")
    assert names(part.subsets) == ["image", "text", "image+text"]
    assert torch.equal(part(batch)["image+text"], net(batch)["image+text"])
    assert names(load_model(tmp_path / "part", modalities=["text"]).subsets) == ["text"]
    with pytest.raises(ValueError, match=r"modality 'audio' is not known.*Known: 'image', 'text'"):
        load_model(tmp_path / "part", modalities=["audio"])


def test_modalities_without_a_subset_are_refused(tmp_path):
    save_model(model(), tmp_path)
    with pytest.raises(ValueError, match="modality 'imgae' is not known; did you mean 'image'"):
        load_model(tmp_path, modalities=["imgae"])
    fused = Plan.parse(["a+b ~ c"])
    with pytest.raises(ValueError, match=r"modalities \['a'\] make no subset of this plan, which embeds c, a\+b"):
        MultimodalModel(fused, {"a": MLPEncoder(2, [], 3)}, modalities=["a"])
    with pytest.raises(ValueError, match=r"modalities \[\] make no subset"):
        load_model(tmp_path, modalities=[])


def test_weights_that_a_part_needs_may_not_lack(tmp_path):
    save_model(model(), tmp_path / "whole")
    part = load_model(tmp_path / "whole", modalities=["image"])
    save_model(load_model(tmp_path / "whole", modalities=["text"]), tmp_path / "text")
    with pytest.raises(ValueError, match=r"projections\.image\.weight: nothing in the file"):
        load_weights(part, tmp_path / "text" / "model.safetensors")


def test_fused_subsets_of_higher_order(tmp_path):
    plan = disjoint_plan(("a", "b", "c", "d"))
    net = MultimodalModel(plan, {name: MLPEncoder(2, [], 3) for name in "abcd"}, dim=4, fusion_dim=5)
    save_model(net, tmp_path)
    some = load_model(tmp_path, modalities=["d", "a", "b"])
    assert names(some.subsets) == ["a", "b", "d", "a+b", "a+d", "b+d", "a+b+d"]
