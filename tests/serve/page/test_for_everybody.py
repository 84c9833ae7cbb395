"""Narrow and wide, light and dark, by keyboard, with a key, with a busy server; and what the page may load."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from serve.page.reading import found, link, until

BOTH = link("item-20", "image", "audio", target="text")


def serious(page):
    said = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in said if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_scan_of_accessibility_has_no_serious_finding(open_page, scheme):
    page = open_page(scheme=scheme)
    expect(page.locator(".start").first).to_be_visible()
    assert serious(page) == []
    page.goto(page.url.partition("#")[0] + BOTH)
    found(page)
    expect(page.locator("#guess table")).to_be_visible()
    for closed in ("Weigh each one", "Filters and number of results", "Words to choose from", "The map as a list"):
        page.get_by_text(closed).click()
    assert serious(page) == []
    page.locator(".hit .id").first.click()
    expect(page.get_by_role("dialog").locator("dl")).to_be_visible()
    assert serious(page) == []


@pytest.mark.parametrize("width", [320, 390, 820, 1300, 1900])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = found(open_page(BOTH, width=width))
    expect(page.locator("#guess table")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    main, alone = (page.locator(f"[data-column={name}]").bounding_box() for name in ("main", "image"))
    assert (alone["x"] > main["x"] + main["width"]) == (width < 768 or width >= 1344)
    assert page.locator("#ask").bounding_box()["width"] > 280


def test_the_keyboard_alone_asks_and_reads(open_page):
    page = open_page()
    expect(page.locator(".start").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_be_focused()
    page.keyboard.press("Tab")
    page.locator("#targets input:checked").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#slots textarea").first.focus()
    page.keyboard.type("a red bird")
    page.keyboard.press("Enter")
    found(page)
    expect(page.locator("#live")).to_contain_text("nearest to your text")
    page.locator("#targets input:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#targets input:checked")).to_be_focused()


def test_the_theme_is_kept(open_page):
    page = open_page(scheme="light")
    button = page.get_by_role("button", name="Theme: Auto")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    button.click()
    page.get_by_role("button", name="Theme: Light").click()
    expect(page.get_by_role("button", name="Theme: Dark")).to_be_visible()
    assert page.evaluate(colour) != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: Dark")).to_be_visible()
    assert page.evaluate(colour) != light


def test_a_key_is_asked_for_and_sent(open_page, guarded):
    page = open_page(BOTH, at=guarded)
    dialog = page.get_by_role("dialog", name="This server wants an API key")
    dialog.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("API key")).to_have_value("")
    dialog.get_by_label("API key").fill("a long secret")
    dialog.get_by_role("button", name="Use it").click()
    found(page)
    until(page, "() => [...document.querySelectorAll('.column img')].some(one => one.naturalWidth > 0)")
    assert "secret" not in page.url


def started(page):
    """Waits for both lists of the start page: the second is found by searches, which a route would count too."""
    expect(page.locator(".begin h3")).to_have_count(2)
    expect(page.locator(".start").first).to_be_visible()


def test_a_busy_server_is_asked_again(open_page):
    page = open_page()
    started(page)
    page.clock.install()
    times = []

    def busy(route):
        times.append(1)
        if len(times) > 1:
            route.continue_()
            return
        error = {"error": {"code": "busy", "message": "the queue is full", "field": None}}
        route.fulfill(
            status=503, headers={"Retry-After": "300"}, content_type="application/json", body=json.dumps(error)
        )

    page.route("**/v1/search", busy)
    page.get_by_role("button", name="Ask with ").first.click()
    expect(page.get_by_role("alert")).to_contain_text("The server is busy; asking again in 10 s")
    page.clock.fast_forward(10_000)
    found(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_is_gone_is_said(open_page):
    page = open_page()
    started(page)
    page.route("**/v1/search", lambda route: route.abort())
    page.get_by_role("button", name="Ask with ").first.click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
