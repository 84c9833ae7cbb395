"""One small trained collection for all tests of the server."""

import pytest
from starlette.testclient import TestClient

from confu.serve import ServeSettings, create_app
from search.tiny_collection import open_collection


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    made = open_collection(tmp_path_factory.mktemp("tiny"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def client(collection):
    """With small limits, so that what is too much is quickly made."""
    settings = ServeSettings(
        max_upload_mb=1, max_request_mb=2, max_pixels=1_000_000, max_seconds_audio=5, max_text=500, max_numbers=1000
    )
    with TestClient(create_app(collection, settings)) as made:
        yield made
