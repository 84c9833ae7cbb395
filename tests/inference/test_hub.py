"""Models on the hub, with a hub that is a folder."""

import shutil
from pathlib import Path

import pytest
import torch

from confu.inference import Embedder, load
from confu.inference.hub import is_repository_id

from .parts import embedder, items


class FakeApi:
    """Keeps the files of a repository, and what was asked for."""

    def __init__(self, place: Path):
        self.place, self.calls = place, []

    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.calls.append(("create", repo_id, private, exist_ok))

    def create_branch(self, repo_id, branch, exist_ok=False):
        self.calls.append(("branch", repo_id, branch, exist_ok))

    def upload_folder(self, repo_id, folder_path, revision, commit_message, allow_patterns):
        self.calls.append(("upload", repo_id, revision, commit_message, tuple(sorted(allow_patterns))))
        shutil.copytree(folder_path, self.place / repo_id)
        return f"https://hub.example/{repo_id}/commit/1"


def test_a_pushed_model_is_loaded_again(tmp_path, monkeypatch):
    import huggingface_hub

    api, made = FakeApi(tmp_path), embedder()
    address = made.push_to_hub("anna/birds", licence="mit", private=True, api=api)
    assert address == "https://hub.example/anna/birds/commit/1"
    files = ("README.md", "inputs.json", "model.json", "model.safetensors")
    assert api.calls == [
        ("create", "anna/birds", True, True),
        ("upload", "anna/birds", None, "Upload a model of confu", files),
    ]
    assert "confu.load('anna/birds')" in (tmp_path / "anna/birds/README.md").read_text()
    asked = []

    def snapshot_download(repo_id, **options):
        asked.append((repo_id, options["revision"], set(options["allow_patterns"])))
        return str(tmp_path / repo_id)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    again = Embedder.from_pretrained("anna/birds", modalities=["text"], revision="v1")
    assert asked == [("anna/birds", "v1", set(files))]
    assert torch.equal(again.encode(text=items(2)["text"]).vectors, made.encode(text=items(2)["text"]).vectors)


def test_a_branch_is_made_if_it_is_asked_for(tmp_path):
    api = FakeApi(tmp_path)
    embedder().push_to_hub("anna/birds", revision="v2", message="Second try", api=api)
    assert [call[0] for call in api.calls] == ["create", "branch", "upload"]
    assert api.calls[2][2:4] == ("v2", "Second try")


def test_a_model_that_cannot_be_written_is_not_uploaded(tmp_path):
    api, made = FakeApi(tmp_path), embedder()
    made.save_pretrained(tmp_path / "flat")
    part = load(tmp_path / "flat", modalities=["sensor", "steps"])
    with pytest.raises(ValueError, match="only sensor, steps of this model are loaded"):
        part.push_to_hub("anna/birds", api=api)
    with pytest.raises(ValueError, match="repo_id must be 'owner/name' on the Hugging Face hub; got 'birds'"):
        made.push_to_hub("birds", api=api)
    assert api.calls == []


def test_what_the_hub_does_not_have_is_refused_with_its_reason(monkeypatch):
    import huggingface_hub

    def snapshot_download(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(
        ValueError, match=r"runs/brids: there is no such folder here, and .*ConnectionError: no route to"
    ):
        load("runs/brids")


@pytest.mark.parametrize("name", ["birds", "./birds", "a/b/c", "/a", "a/", "../birds", "C:\\models/birds", "a\\b/c"])
def test_paths_are_no_repositories(name):
    assert not is_repository_id(name)
