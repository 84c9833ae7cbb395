"""From a table of one's own to a trained model: run files, checks, training, and opening a run again."""

from confu.workflow.evaluating.evaluation_run import evaluate
from confu.workflow.opened import OpenedRun, open_run
from confu.workflow.preparing.checking import check
from confu.workflow.proposing.proposal import Proposal, init
from confu.workflow.run_files.reading import read_run_file, write_run_file
from confu.workflow.run_files.run_file import RunFile
from confu.workflow.sweeping import sweep
from confu.workflow.training_run import train

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
