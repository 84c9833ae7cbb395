"""Asking with pictures, sounds, words and numbers, alone and together."""

import json

import numpy as np
import pytest
from playwright.sync_api import expect

from search.tiny_collection import PAIRS, picture
from serve.page.reading import MAIN, found, hits, link, png, slot, until, words


@pytest.fixture(scope="module")
def telling(collection):
    """An item whose caption only its picture and its sound together find, each of three times."""
    for row, pair in enumerate(PAIRS * 3):
        if row < 3:
            continue
        answer = collection.similar(f"item-{row:02d}", "image+audio", "text", k=3, singles=True)
        right = [
            [hit.metadata["label"] for hit in one].count(" ".join(pair))
            for one in (answer.hits, *answer.singles.values())
        ]
        if right[0] == 3 and max(right[1:]) < 3:
            return f"item-{row:02d}", *pair
    raise AssertionError("the tiny collection shows nothing")


def test_both_together_find_what_neither_finds_alone(open_page, telling):
    id, colour, pitch = telling
    page = found(open_page(link(id, "image", "audio", target="text", k=3)))
    caption = f"a {colour} bird with a {pitch} call"
    assert hits(page) == [caption] * 3
    assert hits(page, "image").count(caption) < 3 and hits(page, "audio").count(caption) < 3
    assert all(colour in one for one in hits(page, "image")) and all(pitch in one for one in hits(page, "audio"))
    glance = page.locator(".glance")
    expect(glance.locator("li").first).to_contain_text(f"{colour} {pitch} 3")
    expect(glance).to_contain_text(f"for an item of label {colour} {pitch}")
    expect(page.locator(f"{MAIN} .chip.own")).to_have_count(1)
    expect(page.locator("#live")).to_contain_text("3 text items nearest to your image + audio")


def test_an_item_of_the_start_is_asked_with(open_page):
    page = open_page()
    expect(page.get_by_role("heading", name="Any combination of inputs, one answer")).to_be_visible()
    expect(page.locator("#size")).to_contain_text("48 items with image, audio, text, sensor")
    told = page.locator(".start", has=page.locator(".verdicts")).first
    expect(told.locator(".verdicts li")).to_contain_text(["image alone", "audio alone", "together"])
    label = told.locator(".right b").inner_text().removesuffix(" ✓")
    expect(told.locator(".right")).to_contain_text("together")
    told.get_by_role("button", name="Ask with ").click()
    found(page)
    assert "in." in page.url
    expect(page.locator(f"{MAIN} .chip").first).to_have_text(label)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("heading", name="Any combination of inputs, one answer")).to_be_visible()


def test_an_upload_and_words(open_page):
    page = open_page()
    slot(page, "image").locator("input[type=file]").set_input_files(png(picture("green", np.random.default_rng(3))))
    found(page)
    expect(page.get_by_role("img", name="Your image")).to_be_visible()
    assert all("green" in one for one in hits(page)[:5])
    page.get_by_role("button", name="Remove the image").click()
    words(page).fill("a blue bird with a deep call")
    page.keyboard.press("Enter")
    expect(page.locator("#results-title")).to_contain_text("nearest to your text")
    page.locator("#targets").get_by_text("image + audio", exact=True).click()
    expect(page.locator("#results-title")).to_contain_text("image + audio items nearest to your text")
    expect(page.locator(f"{MAIN} .chip").first).to_have_text("blue deep")


def test_a_dropped_file_goes_where_it_fits(open_page):
    page = open_page()
    expect(slot(page, "sensor")).to_be_visible()
    content = list(png(picture("red", np.random.default_rng(3)))["buffer"])
    carried = page.evaluate_handle(
        """content => { const carried = new DataTransfer();
        carried.items.add(new File([new Uint8Array(content)], "mine.png", { type: "image/png" })); return carried; }""",
        content,
    )
    page.dispatch_event("#results", "drop", {"dataTransfer": carried})
    expect(page.get_by_role("img", name="Your image")).to_be_visible()
    assert all("red" in one for one in hits(found(page))[:5])


def test_a_recording_of_the_microphone_with_a_picture(open_page):
    page = open_page()
    slot(page, "image").locator("input[type=file]").set_input_files(png(picture("red", np.random.default_rng(4))))
    page.get_by_role("button", name="Record: audio").click()
    stop = page.get_by_role("button", name="Stop recording: audio")
    expect(stop).to_contain_text("Stop 1.")
    stop.click()
    expect(page.locator("audio[aria-label='Your audio']")).to_be_visible()
    expect(page.locator("#results-title")).to_contain_text("nearest to your image + audio")
    expect(page.locator(f"{MAIN} .said").first).to_have_text("a red bird with a shrill call")


def test_a_picture_of_the_camera(open_page):
    page = open_page()
    page.get_by_role("button", name="Camera: image").click()
    until(page, "() => document.querySelector('#camera video')?.videoWidth > 0")
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_role("img", name="Your image")).to_be_visible()
    found(page)


def test_numbers_are_counted_and_a_wrong_number_is_said(open_page):
    page = open_page()
    area = slot(page, "sensor").get_by_role("textbox")
    area.fill("1, 1, 0, 0")
    expect(slot(page, "sensor")).to_contain_text("4 of 4 numbers")
    expect(page.locator(f"{MAIN} .said").first).to_have_text("a red bird with a deep call")
    area.fill("1, zero")
    expect(slot(page, "sensor")).to_contain_text("Number 2 is none")
    area.fill("1 0 1")
    expect(slot(page, "sensor").locator(".wrong")).to_contain_text("4")
    expect(area).to_have_attribute("aria-invalid", "true")


def test_what_is_no_picture_is_said_beside_the_input(open_page):
    page = open_page()
    words(page).fill("a blue bird")
    file = slot(page, "image").locator("input[type=file]")
    file.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": b"not a picture"})
    wrong = slot(page, "image").locator(".wrong")
    expect(wrong).to_contain_text("image:")
    expect(slot(page, "image")).to_have_attribute("aria-describedby", "wrong-image")
    page.get_by_role("button", name="Remove the image").click()
    expect(wrong).to_be_empty()
    found(page)
    file.set_input_files({"name": "big.png", "mimeType": "image/png", "buffer": bytes(2**20 + 1)})
    expect(wrong).to_contain_text("the server takes up to 1 MiB")


def test_the_slider_goes_from_fused_to_each_alone(open_page, telling):
    page = found(open_page(link(telling[0], "image", "audio", target="text")))
    page.evaluate("""() => { const send = window.fetch; window.sent = [];
      window.fetch = (url, options) => {
        window.sent.push(options.body?.get("weights")); return send(url, options); }; }""")
    page.get_by_role("slider", name="Together or alone").fill("0.4")
    expect(page.get_by_role("heading", name="Your mix")).to_be_visible()
    assert json.loads(page.evaluate("() => window.sent[0]")) == {"image+audio": 0.4, "image": 0.3, "audio": 0.3}
    assert "share=0.4" in page.url
    page.get_by_text("Weigh each one").click()
    page.locator("#mix").get_by_role("slider", name="image", exact=True).fill("1")
    until(page, "() => location.hash.includes('weights=')")
    assert json.loads(page.evaluate("() => window.sent.at(-1)"))["image"] == 1


def test_filters_take_away_and_say_what_is_wrong(open_page, telling):
    page = found(open_page(link(telling[0], "image", target="text")))
    page.get_by_text("Filters and number of results").click()
    page.get_by_label("Column").select_option("colour")
    page.get_by_label("Value").fill("blue")
    page.get_by_role("button", name="Add filter").click()
    expect(page.locator("#filters code")).to_have_text("colour == blue")
    expect(page.locator(f"{MAIN} .said").first).to_contain_text("blue")
    assert all("blue" in one for one in hits(found(page)))
    page.get_by_label("Column").select_option("hertz")
    page.get_by_label("Value").fill("high")
    page.keyboard.press("Enter")
    expect(page.locator("#wrong-where")).to_contain_text("hertz")
    expect(page.get_by_role("alert")).to_contain_text("Below is the answer to the question before")
    page.get_by_role("button", name="Remove the filter hertz == high").click()
    expect(page.locator("#wrong-where")).to_be_empty()
    page.get_by_label("Column").select_option("colour")
    page.get_by_label("Value").fill("red and blue")
    page.keyboard.press("Enter")
    expect(page.locator("#filters code").last).to_have_text('colour == "red and blue"')
    expect(page.locator("#wrong-where")).to_be_empty()


def test_labels_of_ones_own_are_compared(open_page, telling):
    id, colour, pitch = telling
    page = found(open_page(link(id, "image", "audio", target="text")))
    rows = page.locator("#guess tbody tr")
    expect(rows.first.locator("th")).to_have_text(f"{colour} {pitch}")
    expect(page.locator("#guess thead th")).to_have_text(["label", "together", "image alone", "audio alone"])
    page.get_by_text("Words to choose from").click()
    page.get_by_label("Sentence around each word").fill("a {} bird")
    page.get_by_label("Words, with commas between them").fill("red, green, blue, yellow, <b>x</b>")
    expect(rows.locator("th", has_text="<b>x</b>")).to_be_visible()
    expect(page.locator("#guess")).to_contain_text(f"image alone says {colour}")
