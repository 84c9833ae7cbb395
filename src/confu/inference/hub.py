"""Models on the Hugging Face hub: a model folder is downloaded or uploaded as it is.

Not by `PyTorchModelHubMixin`: it would have to be a base class of the model, and writes a card of its own.
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


def download(name: Path | str, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model: one that exists here, else a repository of the hub, downloaded or from its cache."""
    if Path(name).exists() or not is_repository_id(str(name)):
        return Path(name)
    hub = _hub()
    try:
        return Path(hub.snapshot_download(str(name), revision=revision, token=token, allow_patterns=list(MODEL_FILES)))
    except Exception as error:  # errors of the hub, of the network, of the disk: all mean that it cannot be had
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{name}: there is no such folder here, and it cannot be had from the Hugging Face hub "
            f"({type(error).__name__}: {reason})"
        ) from error


def upload(
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
    """
    if not is_repository_id(repo_id):
        raise ValueError(f"repo_id must be 'owner/name' on the Hugging Face hub; got {repo_id!r}")
    api = _hub().HfApi(token=token) if api is None else api
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write(folder)  # before anything is made on the hub
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            revision=revision,
            commit_message=message,
            allow_patterns=list(MODEL_FILES),
        )
    return str(commit)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'the Hugging Face hub needs the package huggingface_hub: pip install "contrastive-fusion[hf]"'
        ) from error
    return huggingface_hub
