"""The recurrent encoder against torch's own packed GRU, and its segments."""

import torch
from torch import nn

from confu.nn.encoders.recurrent import RecurrentEncoder


def test_states_are_those_of_a_packed_bidirectional_gru():
    torch.manual_seed(0)
    encoder = RecurrentEncoder(in_dim=3, width=4, segments=1, out_dim=8)
    encoder.output = nn.Identity()
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=True)
    for ours, end in ((encoder.forwards, ""), (encoder.backwards, "_reverse")):
        for name, weight in ours.named_parameters():
            getattr(gru, name + end).data.copy_(weight)
    values, lengths = torch.randn(3, 6, 3), torch.tensor([6, 2, 5])
    packed = nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    expected = states.sum(dim=1) / lengths.unsqueeze(1)
    torch.testing.assert_close(encoder(values, torch.arange(6) < lengths.unsqueeze(1)), expected)


def test_segments_cut_each_sequence_as_adaptive_pooling():
    encoder = RecurrentEncoder(in_dim=1, segments=4)
    real = torch.arange(9) < torch.tensor([[9], [4], [2]])
    shares = encoder._shares(real, real.sum(dim=1, keepdim=True))
    for row, length in zip(shares, (9, 4, 2)):
        steps = torch.arange(length, dtype=torch.float32)
        expected = nn.AdaptiveAvgPool1d(4)(steps.view(1, 1, -1)).flatten()
        torch.testing.assert_close(row[:, :length] @ steps, expected)
        assert not row[:, length:].any()


def test_padding_anywhere_changes_nothing():
    torch.manual_seed(1)
    encoder = RecurrentEncoder(in_dim=2, patch=2).eval()
    values = torch.randn(1, 5, 2)
    mask = torch.tensor([[False, True, True, False, True, True, True, False, False]])
    padded = torch.full((1, 9, 2), float("nan"))
    padded[mask] = values[0]
    torch.testing.assert_close(encoder(padded, mask), encoder(values))
