"""A server with faults on demand, a client on a clock of its own, and tiny models, for all tests of the collector."""

import pytest

from paper.collecting.clock import Clock
from paper.collecting.faulty_server import FaultyServer
from paper.collecting.tiny_models import save_captioner, save_language_model


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client(clock):
    return clock.client()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with the captioner `blip` and the language model `gemma`."""
    folder = tmp_path_factory.mktemp("models")
    save_captioner(folder / "blip")
    save_language_model(folder / "gemma")
    return folder
