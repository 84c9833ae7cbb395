from .checking import check
from .doctor import diagnose
from .embedding import EmbedOptions, embed_manifest
from .evaluation import evaluate
from .indexing import IndexOptions, index_manifest
from .prepare import OpenedRun, open_run
from .proposal import Proposal, init
from .run_file import RunFile
from .run_yaml import read_run_file, write_run_file
from .sweeping import sweep
from .training import train

__all__ = [
    "EmbedOptions",
    "IndexOptions",
    "OpenedRun",
    "Proposal",
    "RunFile",
    "check",
    "diagnose",
    "embed_manifest",
    "evaluate",
    "index_manifest",
    "init",
    "open_run",
    "read_run_file",
    "sweep",
    "train",
    "write_run_file",
]
