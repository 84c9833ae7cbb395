from .evaluating.evaluation_run import evaluate
from .opened import OpenedRun, open_run
from .preparing.checking import check
from .proposing.proposal import Proposal, init
from .run_files.reading import read_run_file, write_run_file
from .run_files.run_file import RunFile
from .sweeping import sweep
from .training_run import train

__all__ = [
    "OpenedRun",
    "Proposal",
    "RunFile",
    "check",
    "evaluate",
    "init",
    "open_run",
    "read_run_file",
    "sweep",
    "train",
    "write_run_file",
]
