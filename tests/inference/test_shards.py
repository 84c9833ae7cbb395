"""Shards of embeddings: read as one table, and never mixed."""

import json

import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.inference import load_shards
from confu.inference.shards import claim_shards, missing_shards, shard_name
from confu.plan import Subset

IMAGE, BOTH = Subset("image"), Subset("image", "audio")


def table(rows: range, labels: bool = True, **options) -> EmbeddingTable:
    vectors = torch.nn.functional.normalize(torch.tensor([[row + 1.0, 2.0] for row in rows]).reshape(-1, 2), dim=1)
    complete = torch.tensor([row % 2 == 0 for row in rows], dtype=torch.bool)
    numbers = torch.tensor(list(rows), dtype=torch.long) if labels else None
    return EmbeddingTable(
        [f"r{row}" for row in rows], {IMAGE: vectors, BOTH: vectors}, {BOTH: complete}, numbers, **options
    )


def write(folder, *tables):
    claim_shards(folder, {"shards": len(tables)})
    for shard, one in enumerate(tables):
        one.save(folder / shard_name(shard))


def test_shards_are_one_table_in_order(tmp_path):
    write(tmp_path, table(range(3)), table(range(3, 3)), table(range(3, 5)))
    found, whole = load_shards(tmp_path), table(range(5))
    assert found.ids == whole.ids and torch.equal(found.labels, whole.labels)
    for subset in whole.subsets:
        assert torch.equal(found[subset], whole[subset]) and torch.equal(found.complete[subset], whole.complete[subset])


def test_a_missing_shard_is_named(tmp_path):
    write(tmp_path, table(range(3)), table(range(3, 5)), table(range(5, 6)))
    (tmp_path / shard_name(1)).unlink()
    assert missing_shards(tmp_path, 3) == [1]
    with pytest.raises(
        ValueError, match=r"1 of 3 shards are not there yet, the first is part-00001.parquet; run the same"
    ):
        load_shards(tmp_path)


@pytest.mark.parametrize("other", [{"labels": False}, {"model": "another"}, {"plan": "{}"}])
def test_shards_that_do_not_go_together_are_refused(other, tmp_path):
    write(tmp_path, table(range(3)), table(range(3, 5), **other))
    with pytest.raises(ValueError, match=r"part-00001.parquet: was not made as part-00000.parquet"):
        load_shards(tmp_path)


def test_a_folder_of_other_settings_is_not_touched(tmp_path):
    claim_shards(tmp_path, {"shards": 2, "model": "a", "columns": {"image": "photo"}})
    claim_shards(tmp_path, {"shards": 2, "model": "a", "columns": {"image": "photo"}}, process=3)
    with pytest.raises(ValueError, match=r"made otherwise: model is 'a' there and 'b' here; subsets is None there and"):
        claim_shards(tmp_path, {"shards": 2, "model": "b", "columns": {"image": "photo"}, "subsets": ["image"]})
    assert json.loads((tmp_path / "embed.json").read_text())["model"] == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["embed.json"]


def test_folders_that_are_not_of_shards_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no embed.json; expected a folder that `confu embed` wrote"):
        load_shards(tmp_path)
    table(range(2)).save(tmp_path / shard_name(0))
    with pytest.raises(ValueError, match=r"holds shards but no embed.json"):
        claim_shards(tmp_path, {})
    for text, match in (("{", "not whole JSON"), ('{"format": 9}', "not of format 1")):
        (tmp_path / "embed.json").write_text(text)
        with pytest.raises(ValueError, match=match):
            load_shards(tmp_path)
