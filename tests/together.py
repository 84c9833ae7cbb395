"""Starts processes that talk to one another over gloo on this machine, and gives back what each of them returns.

They are forked from a server that has torch and confu loaded: a start costs a fraction of a second instead of five.
They meet in a file, so that no port is chosen beforehand that another program could take.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

LIMIT = 1200  # seconds, which only processes that wait for one another in vain need
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}


def context():
    found = multiprocessing.get_context("forkserver")
    # dynamo is what the first step of an optimizer loads
    found.set_forkserver_preload(["confu.training", "confu.methods", "torch._dynamo", "torch.distributed.fsdp"])
    return found


def prepare(number, count, environment):
    """What a process sets before anything else; `torchrun` sets the same."""
    ranks = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update(ENVIRONMENT | {name: str(value) for name, value in ranks.items() if count > 1} | environment)
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard.writer"] = None  # its files cost more time than a tiny training
    end_with_parent()


def end_with_parent():
    """A process whose tests were killed would wait for the others for minutes."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch():
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _child(number, count, store, environment, answer, function, arguments):
    try:
        prepare(number, count, environment)
        if count > 1:
            dist.init_process_group(
                "gloo", init_method=f"file://{store}", rank=number, world_size=count, timeout=timedelta(seconds=LIMIT)
            )
        result = function(*arguments)
        if count > 1:
            dist.barrier()  # one that ends early takes the others' connections with it
            dist.destroy_process_group()
        answer.send((True, result))
    except BaseException:
        answer.send((False, traceback.format_exc()))


class Started:
    """Processes under way.

    Args:
        count: of processes.
        function: of a module, called in each of them as `function(*arguments)`.
        arguments: the same for all; they and what it returns are pickled.
        environment: variables to set.
    """

    def __init__(self, count, function, *arguments, **environment):
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        self._processes, self._answers = [], []
        for number in range(count):
            here, there = context().Pipe(duplex=False)
            given = (number, count, store, environment, there, function, arguments)
            process = context().Process(target=_child, args=given, daemon=True)
            process.start()
            there.close()
            self._processes.append(process)
            self._answers.append(here)

    def results(self, timeout=LIMIT):
        """What the function returned, by rank; fails as soon as one of them does, and ends the others."""
        found, left = {}, dict(zip(self._answers, range(len(self._answers))))
        try:
            while left:
                ready = wait(list(left), timeout)
                assert ready, f"processes {list(left.values())} did not end within {timeout} s"
                for answer in ready:
                    number = left.pop(answer)
                    try:
                        done, value = answer.recv()
                    except EOFError:
                        done, value = False, "it ended without a word"
                    assert done, f"process {number}: {value}"
                    found[number] = value
            for process in self._processes:
                process.join(timeout)
        finally:
            self.end()
        return [found[number] for number in range(len(found))]

    def end(self):
        for process in self._processes:
            process.kill()
            process.join()
        self._folder.cleanup()


def started_by_torchrun(count, function, *arguments):
    """The same by the code of `torchrun`, which sets the variables and makes the store; its port is its own choice."""
    context()
    before = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id="tests", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", start_method="forkserver", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        found = elastic_launch(config, _under_torchrun)(function, *arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return [found[number] for number in range(count)]


def _under_torchrun(function, *arguments):
    prepare(0, 1, {})
    result = function(*arguments)
    dist.barrier()
    dist.destroy_process_group()
    return result


def run_together(count, function, *arguments, **environment):
    """Run `function(*arguments)` in several processes at once; what each returned, by rank."""
    return Started(count, function, *arguments, **environment).results()
