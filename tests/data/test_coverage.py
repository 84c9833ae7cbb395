from itertools import combinations

import pytest
import torch
from rich.console import Console

from confu import Subset
from confu.data.coverage import coverage, pattern_of_rows

NAMES = ("image", "audio", "text")


def masks(n=200, names=NAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(n, generator=generator) < 0.6 for name in names}


def printed(table):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_counts_are_those_of_a_loop():
    present = masks()
    found = coverage(present)
    assert found.rows == 200
    for size in (1, 2, 3):
        for names in combinations(NAMES, size):
            expected = sum(all(bool(present[name][row]) for name in names) for row in range(200))
            assert found.complete(Subset(*names)) == expected
    for pattern, count in found.patterns.items():
        assert count == sum(all(bool(present[name][row]) == (name in pattern) for name in NAMES) for row in range(200))
    assert sum(found.patterns.values()) == 200


def test_patterns_name_what_each_row_has():
    present = masks(20)
    for row, pattern in enumerate(pattern_of_rows(present)):
        expected = [name for name in NAMES if present[name][row]]
        assert (list(pattern) if pattern else []) == expected


def test_patterns_are_ordered_by_frequency():
    present = masks()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    shuffled = {name: mask[order] for name, mask in present.items()}
    assert list(coverage(present).patterns.items()) == list(coverage(shuffled).patterns.items())
    counts = list(coverage(present).patterns.values())
    assert counts == sorted(counts, reverse=True)


def test_rows_that_have_nothing_are_counted():
    found = coverage({"image": torch.tensor([True, False, False])})
    assert found.patterns == {frozenset(): 2, Subset("image"): 1}
    assert "nothing" in printed(found.to_rich())


def test_the_table_shows_every_subset_and_pattern():
    found = coverage(masks())
    text = printed(found.to_rich())
    for subset in ("image", "image+audio", "image+text", "image+audio+text"):
        assert any(
            line.startswith(f"{subset} ") and f" {found.complete(subset)} " in line for line in text.splitlines()
        )
    assert "rows that have exactly" in text


def test_many_modalities_list_singles_pairs_and_all():
    names = tuple("abcdefgh")
    found = coverage(masks(names=names))
    assert len(found.subsets) == 8 + 28 + 1
    assert found.complete("a+b+c") >= found.complete("a+b+c+d")


def test_no_rows_are_no_error():
    found = coverage({"image": torch.zeros(0, dtype=torch.bool)})
    assert (found.rows, found.complete("image")) == (0, 0)
    assert "-" in printed(found.to_rich())


@pytest.mark.parametrize(
    "present", [{}, {"a": torch.zeros(2, dtype=torch.bool), "b": torch.zeros(3, dtype=torch.bool)}]
)
def test_masks_of_differing_lengths_are_refused(present, as_users_run):
    with pytest.raises(ValueError, match="present: expected a mask for at least one modality, all of one length"):
        coverage(present)


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match=r"subset image\+video: expected modalities of image, audio, text"):
        coverage(masks()).complete("image+video")
