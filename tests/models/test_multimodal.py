"""The model of a plan: what it embeds, which encoders it calls, and what missing and repeated inputs change."""

import pytest
import torch
from torch import nn

from confu.losses import ConFuLoss
from confu.models import MultimodalModel
from confu.nn.encoders import MLPEncoder
from confu.plan import Plan, Subset, confu_plan, disjoint_plan, pairwise_plan
from confu.types import Batch, Inputs
from models.parts import NAMES, NO_AUDIO, complete_rows, counted, dataset, encoders, model

ALL = torch.arange(12)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("fusion", "missing"), [("mlp", False), ("mlp", True), ("bilinear", True), ("shared", True)])
def test_every_complete_row_has_a_unit_vector(fusion, missing):
    z = model(fusion=fusion).eval()(dataset(missing=missing).batch(ALL))
    assert tuple(z) == confu_plan(NAMES).subsets
    for subset in z:
        assert z[subset].shape == (12, 7)
        assert z[subset].dtype == torch.float32
        rows = complete_rows(*subset) if missing else list(range(12))
        close(z[subset][rows].norm(dim=1), torch.ones(len(rows)))
        complete = z.complete(subset)
        found = list(range(12)) if complete is None else complete.nonzero().squeeze(1).tolist()
        assert found == rows
    assert set(z.present) == ({"audio", "text"} if missing else set())


def test_fused_embeddings_read_features_not_projections():
    net = model().eval()
    batch = dataset(missing=False).batch(ALL)
    before = net(batch)
    with torch.no_grad():
        net.projections["image"].weight.mul_(torch.randn(7, 5))
    after = net(batch)
    assert not torch.allclose(before["image"], after["image"], atol=1e-2)
    assert torch.equal(before["image+audio"], after["image+audio"])
    h = {name: net.encode(name, batch.inputs[name])[batch.inputs[name].rows] for name in NAMES}
    z = nn.functional.normalize(net.fusers["audio+text"]([h["audio"], h["text"]]), dim=1)
    close(after["audio+text"], z)
    close(after["text"], nn.functional.normalize(net.projections["text"](h["text"]), dim=1))


@pytest.mark.parametrize(
    ("subsets", "needed"),
    [
        (["image"], {"image"}),
        (["text+audio"], {"audio", "text"}),
        (["image", "image+audio", "audio"], {"image", "audio"}),
        (None, set(NAMES)),
    ],
)
def test_needed_encoders_are_called_once_and_no_others(subsets, needed):
    net, wrapped = counted()
    z = net(dataset().batch(ALL), subsets)
    assert {name: len(encoder.seen) for name, encoder in wrapped.items()} == {
        name: int(name in needed) for name in NAMES
    }
    assert len(z) == (6 if subsets is None else len(subsets))


def test_a_batch_needs_only_the_requested_modalities():
    batch = dataset().batch(ALL)
    net = model().eval()
    alone = net(Batch({"image": batch.inputs["image"]}, batch.ids), ["image"])
    assert torch.equal(alone["image"], net(batch)["image"])


def test_a_subset_may_be_written_in_any_order():
    net, batch = model().eval(), dataset().batch(ALL)
    turned = net(batch, ["audio+image"])
    assert torch.equal(turned["image+audio"], net(batch)["image+audio"])
    assert net.supports("audio+image")
    assert not net.supports("image+audio+text")


def test_repeated_captions_are_encoded_once_and_give_the_same():
    net, wrapped = counted()
    net.eval()
    once = net(dataset().batch(ALL))
    each = net(dataset(deduplicate=False).batch(ALL))
    assert [len(seen) for seen in wrapped["text"].seen] == [3, 9]
    for subset in once:
        rows = complete_rows(*subset)
        close(once[subset][rows], each[subset][rows])


def test_repeated_captions_give_the_same_gradient():
    gradients = []
    for deduplicate in (True, False):
        net = model()
        ConFuLoss(net.plan)(net(dataset(deduplicate=deduplicate).batch(ALL))).total.backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("fusion", ["mlp", "shared"])
def test_rows_that_lack_a_modality_change_nothing_for_the_others(fusion):
    net, data = model(fusion=fusion).eval(), dataset()
    z = net(data.batch(ALL))
    for subset in z:
        rows = complete_rows(*subset)
        close(z[subset][rows], net(data.batch(torch.tensor(rows)), [subset])[subset])
    one_by_one = [net(data.batch(torch.tensor([row])), ["image"])["image"] for row in range(12)]
    close(z["image"], torch.cat(one_by_one))


@pytest.mark.parametrize("fusion", ["mlp", "shared"])
def test_gradients_of_rows_without_a_term_are_zero(fusion):
    # An image is read by the fused term alone, so that one without a sound takes part in nothing.
    plan = Plan.parse(["audio ~ text", "image+audio ~ text"])
    net = model(plan, fusion=fusion)
    batch = dataset().batch(ALL)
    image = batch.inputs["image"].values.clone().requires_grad_()
    batch.inputs["image"] = Inputs(image, batch.inputs["image"].rows)
    out = ConFuLoss(plan)(net(batch))
    out.total.backward()
    without = torch.tensor(sorted(NO_AUDIO))
    assert not image.grad[without].any()
    assert image.grad[complete_rows("audio")].abs().amax(dim=1).min() > 0
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)


def test_losses_with_gaps_are_those_of_complete_rows():
    net, data = model().eval(), dataset()
    loss = ConFuLoss(net.plan)(net(data.batch(ALL)))

    def one_way(left, right):
        both, answers = complete_rows(*left, *right), complete_rows(*right)
        queries = net(data.batch(torch.tensor(both)), [left])[left]
        targets = net(data.batch(torch.tensor(answers)), [right])[right]
        own = torch.tensor([answers.index(row) for row in both])
        return torch.nn.functional.cross_entropy(queries @ targets.T / 0.07, own)

    for term in net.plan.terms:
        close(loss.terms[str(term)], (one_way(term.left, term.right) + one_way(term.right, term.left)) / 2)


@pytest.mark.parametrize("fusion", ["mlp", "shared"])
def test_a_modality_that_no_row_has_is_never_encoded(fusion):
    net, wrapped = counted(fusion=fusion)
    z = net(dataset().batch(torch.tensor(sorted(NO_AUDIO))))
    assert wrapped["audio"].seen == []
    assert not z.complete(Subset("image", "audio")).any()
    assert not z["audio"].any() and not z["image+audio"].any()
    assert z["image"].norm(dim=1).min() > 0.99
    out = ConFuLoss(net.plan)(z)
    out.total.backward()
    assert list(out.terms) == ["image ~ text"] and out.total.isfinite()


@pytest.mark.parametrize("plan", [confu_plan(NAMES), pairwise_plan(NAMES), disjoint_plan(NAMES, single_side=True)])
def test_every_parameter_is_trained_by_the_loss_of_its_plan(plan):
    net = model(plan).train()
    ConFuLoss(plan)(net(dataset().batch(ALL))).total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert set(net.fusers) == {str(subset) for subset in plan.fused_subsets}


def test_any_number_of_modalities_with_fused_subsets_of_three():
    plan = Plan.parse(["a ~ b+c+d", "a+b ~ c+d"])
    net = MultimodalModel(plan, {name: MLPEncoder(3, [], 2 + k) for k, name in enumerate("abcd")}, dim=5)
    values = torch.randn(4, 4, 3)
    inputs = {name: Inputs(values[k], torch.arange(4)) for k, name in enumerate("abcd")}
    z = net(Batch(inputs, list("wxyz")))
    assert {str(subset) for subset in z} == {"a", "b+c+d", "a+b", "c+d"}
    close(z["b+c+d"].norm(dim=1), torch.ones(4))


def test_the_mask_ratio_acts_in_training_only():
    net, batch = model(mask_ratio=0.5), dataset(missing=False).batch(ALL)
    first, second = net.train()(batch), net(batch)
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image+audio"], second["image+audio"])
    net.eval()
    assert torch.equal(net(batch)["image+audio"], net(batch)["image+audio"])


@pytest.mark.parametrize("missing", [False, True])
def test_under_bfloat16_embeddings_are_float32_of_unit_length(missing):
    net, batch = model().eval(), dataset(missing=missing).batch(ALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(batch)
    single = net(batch)
    for subset in half:
        rows = complete_rows(*subset)
        assert half[subset].dtype == torch.float32
        close(half[subset][rows].norm(dim=1), torch.ones(len(rows)))
        assert (half[subset][rows] - single[subset][rows]).abs().max() < 0.05


def test_bad_requests_say_what_to_do():
    net, batch = model(Plan.parse(["image ~ text", "image+audio ~ text"])), dataset().batch(ALL)
    with pytest.raises(ValueError, match=r"not trained to embed text\+audio; it embeds .*image\+audio\. Add a term"):
        net(batch, ["text+audio"])
    with pytest.raises(ValueError, match=r"unknown modality 'video' in 'image\+video'; this plan has"):
        net(batch, ["image+video"])
    del batch.inputs["audio"]
    assert len(net(batch, ["image", "text"])) == 2
    with pytest.raises(
        ValueError, match="the batch has no inputs for 'audio', only for image, text; give them, or ask"
    ):
        net(batch)


def test_bad_encoders_say_what_to_do():
    plan, chosen = confu_plan(NAMES), encoders()
    with pytest.raises(ValueError, match="the plan has the modality 'text' but no encoder was given for it"):
        MultimodalModel(plan, {name: chosen[name] for name in ("image", "audio")})
    with pytest.raises(ValueError, match="encoder of modality 'txt' is not known; did you mean 'text'"):
        MultimodalModel(plan, {**chosen, "txt": chosen["text"]})
    with pytest.raises(ValueError, match=r"the encoder of 'text' \(Linear\) must say the size.*`out_dim`.*got None"):
        MultimodalModel(plan, {**chosen, "text": nn.Linear(3, 4)})
    with pytest.raises(ValueError, match="fusion kind 'mpl' is not known; did you mean 'mlp'"):
        MultimodalModel(plan, chosen, fusion="mpl")
    named = {"values": MLPEncoder(3), "text": MLPEncoder(3)}
    with pytest.raises(
        ValueError, match=r"'values' has a name that torch uses itself; rename it, e\.g\. 'values_input'"
    ):
        MultimodalModel(pairwise_plan(("values", "text")), named)


@pytest.mark.parametrize(
    ("stacking", "message"),
    [
        ({"image+audio": [0.5, 0.5]}, r"image\+audio takes 3 weights, of it and of each modality; got \[0\.5, 0\.5\]"),
        ({"image": [0.5, 0.5]}, r"weighs a fused subset with its modalities, .*; got image with"),
    ],
)
def test_stacking_that_does_not_fit_is_refused(stacking, message):
    with pytest.raises(ValueError, match=message):
        model(stacking=stacking)
    plan = Plan.parse({"image+audio ~ text": 1}, NAMES)
    with pytest.raises(ValueError, match=r"each of which is a side of a term; got image\+audio"):
        model(plan, stacking={"image+audio": [0.5, 0.3, 0.2]})


def test_stacking_weighs_fused_vectors_with_their_parts():
    net, batch = model(stacking={"audio+image": [0.5, 0.3, 0.2]}).eval(), dataset().batch(ALL)
    z, alone = net(batch), model().eval()
    alone.load_state_dict(net.state_dict())
    plain, rows = alone(batch), complete_rows("image", "audio")
    expected = 0.5 * plain["image+audio"] + 0.3 * plain["image"] + 0.2 * plain["audio"]
    close(z["image+audio"][rows], nn.functional.normalize(expected, dim=1)[rows])
    assert not z["image+audio"][sorted(NO_AUDIO)].any()
    for subset in ("image", "audio+text"):
        assert torch.equal(z[subset], plain[subset])
    close(net(batch, ["image+audio"])["image+audio"], z["image+audio"])
    assert torch.equal(net.train()(batch)["image+audio"], alone.train()(batch)["image+audio"])  # after training only
