"""What each of the small encoders does beyond the common checks."""

import pytest
import torch

from confu.nn.encoders import ConvEncoder, MLPEncoder, SequenceEncoder, TokenEncoder, build_encoder
from confu.nn.encoders.transformer import TransformerStack, sinusoids
from confu.nn.layers import last_step, masked_mean, mlp, step_positions


def small_sequence(**options):
    torch.manual_seed(0)
    return SequenceEncoder(in_dim=5, width=12, heads=3, layers=2, hidden_dim=16, **options).eval()


def test_mlp_has_no_activation_at_the_end():
    torch.manual_seed(0)
    assert (mlp(4, [8], 16)(torch.randn(32, 4)) < 0).any()


def test_mlp_encoder_names_the_size_it_wants():
    with pytest.raises(ValueError, match=r"in_dim = 6 numbers an input; got shape \(2, 2, 2\), 4 an input"):
        MLPEncoder(6, [], 2)(torch.zeros(2, 2, 2))


@pytest.mark.parametrize(("norm", "size"), [("batch", (1, 1)), ("group", (28, 28)), ("none", (7, 40))])
def test_conv_takes_any_size(norm, size):
    encoder = ConvEncoder(channels=(6, 8), out_dim=5, norm=norm).eval()
    assert encoder(torch.randn(2, 1, *size)).shape == (2, 5)


def test_feature_norm_takes_a_single_row_in_training():
    encoder, values = ConvEncoder(channels=(4,), out_dim=5, norm="none", feature_norm=True), torch.randn(6, 1, 9, 9)
    encoder(values)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    alone = encoder.train()(values[:1])
    torch.testing.assert_close(alone, encoder.eval()(values[:1]))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert alone.requires_grad


def test_conv_takes_images_without_an_axis_of_channels():
    encoder, values = ConvEncoder(channels=(4,)).eval(), torch.randn(2, 9, 9)
    torch.testing.assert_close(encoder(values), encoder(values.unsqueeze(1)))


def test_conv_result_does_not_depend_on_memory_format():
    encoder, values = ConvEncoder(in_channels=3, channels=(4, 8)).eval(), torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(encoder(values), encoder(values.to(memory_format=torch.channels_last)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 4}, "kernel must be odd and positive.*got 4"),
        ({"first_kernel": 0}, "first_kernel must be odd"),
        ({"norm": "layer"}, "norm 'layer' is not known.*'batch', 'group', 'none'"),
        ({"channels": ()}, "channels must name at least one"),
        ({"channels": (4, 0)}, r"channels\[1\] must be a whole number"),
        ({"stride": 0}, "stride must be a whole number"),
    ],
)
def test_conv_refuses_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ConvEncoder(**options)


def test_conv_refuses_other_channels():
    with pytest.raises(ValueError, match=r"values must be \(batch, 3, height, width\); got shape \(2, 1, 9, 9\)"):
        ConvEncoder(in_channels=3)(torch.zeros(2, 1, 9, 9))


def test_masked_mean_and_last_step_against_loops():
    steps, mask = torch.randn(40, 6, 3), torch.rand(40, 6) < 0.5
    mask[:, 2] = True
    for row in range(40):
        real = [steps[row, t] for t in range(6) if mask[row, t]]
        torch.testing.assert_close(masked_mean(steps, mask)[row], sum(real) / len(real))
        assert torch.equal(last_step(steps, mask)[row], real[-1])
    every = torch.ones(40, 6, dtype=torch.bool)
    torch.testing.assert_close(masked_mean(steps, every), masked_mean(steps, None))
    assert torch.equal(last_step(steps, every), last_step(steps, None))


def test_positions_count_from_the_first_real_step_over_gaps():
    mask = torch.tensor([[0, 0, 1, 0, 1]]).bool()
    assert step_positions(mask).tolist() == [[0, 0, 0, 1, 2]]


@pytest.mark.parametrize("width", [1, 7, 8])
def test_sinusoids_against_a_loop(width):
    table = sinusoids(torch.arange(50).unsqueeze(0), width)[0].double()
    half = (width + 1) // 2
    for place in (0, 1, 49):
        for j in range(half):
            angle = torch.tensor(place * 10000 ** (-2 * j / width), dtype=torch.float64)
            assert table[place, j] == pytest.approx(angle.sin().item(), abs=1e-4)
            if half + j < width:
                assert table[place, half + j] == pytest.approx(angle.cos().item(), abs=1e-4)


def test_layers_of_a_stack_begin_with_different_weights():
    first, second = TransformerStack(8, 2, 2, 16).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("filling", [1e6, torch.nan])
@pytest.mark.parametrize("grad", [True, False])  # torch takes another path through its layers without gradient
def test_padding_on_either_side_changes_nothing(pooling, filling, grad):
    encoder, values = small_sequence(pooling=pooling), torch.randn(3, 4, 5)
    padding = torch.full((3, 2, 5), filling)
    real, unreal = torch.ones(3, 4).bool(), torch.zeros(3, 2).bool()
    with torch.set_grad_enabled(grad):
        expected = encoder(values)
        after = encoder(torch.cat([values, padding], 1), torch.cat([real, unreal], 1))
        before = encoder(torch.cat([padding, values], 1), torch.cat([unreal, real], 1))
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(before, expected, atol=1e-4, rtol=1e-4)


def test_order_of_steps_matters_with_positions_only():
    values = torch.randn(3, 4, 5)
    blind, seeing = small_sequence(positions=False), small_sequence()
    torch.testing.assert_close(blind(values.flip(1)), blind(values), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(seeing(values.flip(1)), seeing(values), atol=1e-2)


def test_default_sequence_encoder_has_the_sizes_of_multibench():
    encoder = SequenceEncoder(in_dim=20)
    assert encoder.out_dim == 300
    assert len(encoder.stack.layers) == 5
    layer = encoder.stack.layers[0]
    assert (layer.self_attn.num_heads, layer.linear1.out_features, layer.dropout.p) == (5, 2048, 0.1)
    assert not layer.norm_first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 300, "heads": 7}, "multiple of heads; got width 300 with 7 heads: take width 294 or 301"),
        ({"pooling": "max"}, "pooling 'max' is not known.*'mean', 'last'"),
        ({"layers": 0}, "layers must be a whole number"),
        ({"dropout": 1.0}, r"dropout is the share that is dropped and must be in \[0, 1\); got 1.0"),
        ({"out_dim": 0}, "out_dim must be a whole number"),
    ],
)
def test_sequence_refuses_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SequenceEncoder(**{"in_dim": 5, "width": 10, "layers": 1, "hidden_dim": 8, **options})


def test_sequence_refuses_bad_inputs():
    encoder, mask = small_sequence(), torch.ones(3, 4).bool()
    with pytest.raises(ValueError, match=r"values must be \(batch, time, in_dim = 5\); got shape \(3, 4, 6\)"):
        encoder(torch.zeros(3, 4, 6), mask)
    with pytest.raises(ValueError, match="row 1 has none: mark that row's modality as missing"):
        encoder(torch.zeros(3, 4, 5), mask & torch.tensor([[True], [False], [True]]))


def small_tokens(**options):
    torch.manual_seed(0)
    return TokenEncoder(vocab_size=11, width=8, layers=2, heads=2, max_length=6, **options).eval()


def test_token_padding_changes_nothing():
    encoder, ids = small_tokens(), torch.randint(0, 11, (3, 4))
    padded, mask = torch.cat([ids, torch.full((3, 2), 7)], 1), torch.arange(6).expand(3, 6) < 4
    torch.testing.assert_close(encoder(padded, mask), encoder(ids), atol=1e-4, rtol=1e-4)
    assert torch.equal(encoder(padded, mask), encoder(padded, mask.long()))


def test_token_order_matters():
    encoder = small_tokens()
    forth, back = encoder(torch.tensor([[1, 2, 3]])), encoder(torch.tensor([[3, 2, 1]]))
    assert not torch.allclose(forth, back, atol=1e-3)


def test_tokens_do_not_drop_by_default():
    encoder, ids = small_tokens().train(), torch.tensor([[1, 2, 3]])
    assert torch.equal(encoder(ids), encoder(ids))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(2, 7, dtype=torch.long), r"length of at most 6; got shape \(2, 7\)"),
        (torch.tensor([[3, 11]]), "input_ids must be 0 to 10; got 3 to 11"),
        (torch.tensor([[-1, 2]]), "input_ids must be 0 to 10; got -1 to 2"),
    ],
)
def test_tokens_refuse_bad_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        small_tokens()(ids)


def test_tokens_refuse_a_row_of_padding():
    with pytest.raises(ValueError, match="attention_mask must leave at least one real step in every row; row 0"):
        small_tokens()(torch.tensor([[1, 2]]), torch.tensor([[0, 0]]))


def test_max_time_pooling_forgets_when_and_keeps_how_high():
    encoder = build_encoder(
        {"kind": "conv", "channels": [8], "norm": "none", "stride": 1, "first_stride": 1, "pooling": "max-time",
         "height": 16, "out_dim": 4}
    )  # fmt: skip
    early, late, high = torch.zeros(3, 1, 1, 16, 32)
    early[..., 5, 8], late[..., 5, 20], high[..., 11, 8] = 1.0, 1.0, 1.0
    assert torch.allclose(encoder(early), encoder(late), atol=1e-6)
    assert not torch.allclose(encoder(early), encoder(high), atol=1e-3)
    with pytest.raises(ValueError, match=r"must have the height 16; got shape \(1, 1, 8, 32\)"):
        encoder(torch.zeros(1, 1, 8, 32))
    with pytest.raises(ValueError, match="goes with pooling 'max-time'"):
        build_encoder({"kind": "conv", "pooling": "max-time"})
