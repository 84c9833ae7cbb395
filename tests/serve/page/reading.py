"""What a person reads off the page."""

import io
import time
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import expect

MAIN = "[data-column=main]"


def hits(page, column="main"):
    """The captions of a list, best first."""
    return [
        one.inner_text()
        for one in page.locator(f"[data-column='{column}'] .hit .said, [data-column='{column}'] .open").all()
    ]


def found(page):
    """Waits until the answer is there."""
    expect(page.locator(f"{MAIN} .hit").first).to_be_visible()
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")
    return page


def png(pixels):
    """A picture as an upload."""
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return {"name": "mine.png", "mimeType": "image/png", "buffer": held.getvalue()}


def slot(page, name):
    """The card of a modality."""
    return page.locator(f".slot[data-name={name}]")


def link(id, *names, **more):
    """The address of a question by modalities of an item."""
    return "#" + urlencode({**{f"in.{name}": f"item:{id}" for name in names}, **more})


def words(page):
    """Where words are written."""
    return page.get_by_role("textbox", name="text", exact=True)


def until(page, expression, argument=None, seconds=60):
    """Waits until an expression is true; Playwright's own way is one that the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)
