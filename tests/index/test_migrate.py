"""Indexes of the first format: `fixtures/index_format_1.tar.gz` was written by the code of commit 61da28c."""

import json
import tarfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import torch

from confu.index import Index, migrate
from index.made import IMAGE, items, queries

FIXTURE = Path(__file__).parents[1] / "fixtures" / "index_format_1.tar.gz"


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_an_index_of_the_first_format_is_converted(folder):
    """It had 18 items in two writes, of which two were deleted and two replaced."""
    with pytest.raises(ValueError, match=r"earlier version of confu; convert it once with `confu index .* --compact`"):
        Index.open(folder / "exact_index")
    with Index.open(folder / "exact_index", writable=True) as index:
        index.compact()
    with Index.open(folder / "exact_index") as index:
        assert index.verify() == [] and index.about.source == {"manifest": "birds.csv"}
        kept = [f"id{number}" for number in range(18) if number not in (3, 4, 5, 13)]
        assert list(index.ids()) == [*kept, "id4", "id5"]
        for id, number, first in [("id2", 2, items(12)), ("id4", 0, items(2, seed=5, start=4))]:
            torch.testing.assert_close(index.vector(id, "text"), first.table["text"][number])
            assert index.get(id).metadata["year"] == first.metadata["year"][number].as_py()
            assert index.get(id).media == first.media_of(number)
        assert index.get("id14").metadata["day"] == date(2020, 1, 3)
        assert index.get("id14").metadata["sent"] == datetime(2020, 1, 3, tzinfo=UTC)
        late = index.search(queries(1), "text", 20, ["day >= 2020-01-04"])[0]
        assert {hit.id for hit in late} == {"id15", "id16", "id17"}
        image = [id for id in index.ids() if IMAGE in index.get(id).subsets]
        assert {hit.id for hit in index.search(queries(1), IMAGE, 20)[0]} == set(image)
    assert not (folder / "exact_index" / "segments").exists()


def test_a_faiss_index_of_the_first_format_is_converted(folder):
    pytest.importorskip("faiss")
    with Index.open(folder / "faiss_index", writable=True) as index:
        assert index.verify() == [] and len(index) == 15 and index.backend.dial == ("ef", 64)
        assert index.search(items(15).table["text"][7], "text", 1)[0][0].id == "id7"


def test_a_killed_conversion_starts_again(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(migrate.Catalog, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Index.open(folder / "exact_index", writable=True)
    assert (folder / "exact_index" / "segments").exists()
    with Index.open(folder / "exact_index", writable=True) as index:
        assert len(index) == 16 and index.verify() == []


@pytest.mark.parametrize("name", ["../../elsewhere", "gone"])
def test_a_damaged_index_of_the_first_format_is_kept(folder, name):
    file = folder / "exact_index" / "index.json"
    content = json.loads(file.read_text())
    content["store"]["segments"][1]["name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"expected the name of a file in this folder|not readable .*gone"):
        Index.open(folder / "exact_index", writable=True)
    assert json.loads(file.read_text()) == content and (folder / "exact_index" / "segments").exists()
