"""Settings of every test: one thread, so that numbers do not depend on the machine, and no chatter."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ.setdefault("CONFU_MATMUL", "default")  # else each process measures which is faster, and rounds likewise
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorBoard loads TensorFlow where that is installed

import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import config

torch.set_num_threads(1)
# By itself Hypothesis fails a test whose examples take more than 0.2 s, as they do on a busy machine.
settings.register_profile("confu", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("confu")


@pytest.fixture
def as_users_run(monkeypatch):
    """Without the checks of shapes in signatures, which only pytest turns on: confu itself must raise the errors."""
    monkeypatch.setattr(config, "jaxtyping_disable", True)


@pytest.fixture
def without_tensorboard(monkeypatch):
    """As where TensorBoard is not installed; its files also cost more time than a tiny training."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
