import pytest
import torch

from confu_paper.collecting.models import SeededDraw
from confu_paper.collecting.step_log import generator_of, seed_of


def test_seed_of_is_the_same_in_every_process():
    assert seed_of(0, "Ardea cinerea", 2) == seed_of(0, "Ardea cinerea", 2) == 4876879711843948533
    assert generator_of("a").integers(1000) == generator_of("a").integers(1000)


def test_draws_follow_the_distribution():
    scores = torch.tensor([0.0, 1.0, 2.0])
    draw = SeededDraw(range(4000), temperature=2.0, top_p=1.0)
    drawn = draw(torch.zeros(4000, 1, dtype=torch.long), scores.expand(4000, -1)).argmax(-1)
    shares = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(shares, (scores / 2).softmax(0), atol=0.03, rtol=0)


def test_top_p_draws_from_the_fewest_likely_tokens():
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    draw = SeededDraw(range(500), temperature=1.0, top_p=0.7)
    drawn = draw(torch.zeros(500, 1, dtype=torch.long), scores.expand(500, -1)).argmax(-1)
    assert set(drawn.tolist()) == {0, 1}


def test_a_row_draws_the_same_in_any_batch():
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(3, 1, dtype=torch.long)
    together = SeededDraw([5, 6, 7], 1.0, 0.9)
    alone = SeededDraw([6], 1.0, 0.9)
    for _ in range(3):
        assert torch.equal(together(ids, scores)[1], alone(ids[1:2], scores[1:2])[0])


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="temperature above 0"):
        SeededDraw([1], 0.0, 0.9)
    with pytest.raises(ValueError, match="top_p"):
        SeededDraw([1], 1.0, 0.0)
    with pytest.raises(ValueError, match="one a prompt, 2; got 1"):
        SeededDraw([1], 1.0, 0.9)(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 4))
