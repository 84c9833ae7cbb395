"""One server and one Chromium for all tests of the page."""

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect, sync_playwright

from confu.serve import ServeSettings, server_of
from search.tiny_collection import RATE, tone

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip


PATIENCE = 60_000
"""Milliseconds, which only a page or a server that is broken needs."""
expect.set_options(timeout=PATIENCE)


def _serve(collection, **settings):
    server = server_of(collection, ServeSettings(port=0, **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + PATIENCE / 1000
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="package")
def address(collection):
    yield from _serve(collection, max_upload_mb=1)


@pytest.fixture(scope="package")
def guarded(collection):
    yield from _serve(collection, api_key="a long secret")


def _chromium(player):
    """The one that is named, one of the system, or Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    found = found or player.chromium.executable_path
    if not Path(found).exists():
        pytest.fail("the page is tested in Chromium, and none is there: make browser, or set CHROMIUM to its path")
    return found


@pytest.fixture(scope="package")  # not the session's: as long as it is open, no other test can use asyncio.run
def browser(tmp_path_factory):
    spoken = tmp_path_factory.mktemp("microphone") / "shrill.wav"
    soundfile.write(spoken, tone("shrill", np.random.default_rng(5), seconds=4), RATE)
    with sync_playwright() as player:
        made = player.chromium.launch(
            executable_path=_chromium(player), args=[*FLAGS, f"--use-file-for-fake-audio-capture={spoken}"]
        )
        yield made
        made.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; at the end it has asked no other host and had no error that nobody caught."""
    contexts, troubles = [], []

    def open_at(hash="", width=1300, height=900, scheme="light", at=address, **settings):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **settings)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("console", lambda said: troubles.append(said.text) if _is_trouble(said) else None)
        page.on(
            "request", lambda sent: None if sent.url.startswith((at, "blob:", "data:")) else troubles.append(sent.url)
        )
        page.goto(f"{at}{hash}")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not troubles


def _is_trouble(said):
    """The console's errors, but for answers of 4xx and 5xx, which the tests of errors ask for."""
    return said.type == "error" and "Failed to load resource" not in said.text
