"""One tiny run that is trained once a session and shared by the tests of training, evaluation and the page."""

import pytest

from confu.runs import evaluate, train
from runs.own_data import RUN, make_rows, write_run, write_table


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder with a table of 80 rows with gaps, its run file, and in runs/clips a run of it."""
    folder = tmp_path_factory.mktemp("clips")
    write_table(folder, make_rows(folder, 80))
    train(write_run(folder, f"{RUN}data: {{shares: [0.5, 0.2, 0.3]}}\n"), progress=False)
    return folder


@pytest.fixture(scope="session")
def clips_report(clips):
    """What an evaluation of the run measured; its files are in the run folder."""
    return evaluate(clips / "runs" / "clips", progress=False)
