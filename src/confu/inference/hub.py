"""Models on the Hugging Face hub.

`huggingface_hub.PyTorchModelHubMixin` is for a module whose constructor takes plain arguments: it stores these in
`config.json`, would have to be a base class (so that confu could not be imported without the package), and writes a
card of its own. Here a folder is downloaded or uploaded as it is.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confu.inference.model_folder import MODEL_FILES


def is_repository_id(name: str) -> bool:
    """Whether a name can be a repository of the hub: `owner/name`.

    >>> is_repository_id("anna/birds"), is_repository_id("runs/birds/best"), is_repository_id("./birds")
    (True, False, False)
    """
    owner, slash, rest = name.partition("/")
    plain = all(part and not part.startswith(".") and "\\" not in part and ":" not in part for part in (owner, rest))
    return bool(slash) and plain and "/" not in rest


def located(name: Path | str, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model: a folder that is there, or else a repository of the hub, downloaded.

    Raises:
        ValueError: if it is neither.
    """
    here = Path(name).exists() or not is_repository_id(str(name))
    return Path(name) if here else fetched(str(name), revision, token)


def fetched(repo_id: str, revision: str | None = None, token: str | None = None) -> Path:
    """Download the model folder of a repository, or take it from the cache, and say where it lies.

    Raises:
        ValueError: if it cannot be had.
    """
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo_id, revision=revision, token=token, allow_patterns=list(MODEL_FILES)))
    except Exception as error:  # errors of the hub, of the network, of the disk: all mean that it cannot be had
        told = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{repo_id}: there is no such folder here, and it cannot be had from the Hugging Face hub "
            f"({type(error).__name__}: {told})"
        ) from error


def uploaded(
    write: Callable[[Path], None],
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a model of confu",
    api: Any = None,
) -> str:
    """Upload what `write` puts into a folder, in one commit; the repository is made if it is not there.

    Args:
        write: writes the model folder.
        repo_id: `owner/name`.
        private: of a new repository; None is the owner's default.
        token: None takes the one of `hf auth login`.
        revision: the branch, made if it is not there; None is the main one.
        message: of the commit.
        api: in place of `huggingface_hub.HfApi(token=token)`.

    Returns:
        the address of the commit.

    Raises:
        ValueError: if `repo_id` cannot be one.
    """
    if not is_repository_id(repo_id):
        raise ValueError(f"repo_id must be 'owner/name' on the Hugging Face hub; got {repo_id!r}")
    api = _hub().HfApi(token=token) if api is None else api
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        write(folder)  # before anything is made on the hub
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            revision=revision,
            commit_message=message,
            allow_patterns=list(MODEL_FILES),
        )
    return str(done)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'the Hugging Face hub needs the package huggingface_hub: pip install "contrastive-fusion[hf]"'
        ) from error
    return huggingface_hub
