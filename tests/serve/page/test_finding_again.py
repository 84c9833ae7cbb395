"""Links, the map, and an item by itself."""

from urllib.parse import quote

import numpy as np
from playwright.sync_api import expect

from search.tiny_collection import picture
from serve.page.reading import MAIN, found, hits, link, png, slot, until, words

PIXELS = """const canvas = document.querySelector("#map canvas"), { width, height } = canvas;
  const all = width ? canvas.getContext("2d").getImageData(0, 0, width, height).data : [];"""
PAINTED = f"() => {{ {PIXELS} return all.some((value, i) => i % 4 === 3 && value > 180); }}"
FIRST_POINT = f"""() => {{ {PIXELS} const at = all.findIndex((value, i) => i % 4 === 3 && value > 180) / 4;
  return {{ x: at % width / devicePixelRatio, y: Math.floor(at / width) / devicePixelRatio + 1 }}; }}"""


def test_a_link_asks_the_same_again(open_page):
    page = open_page()
    words(page).fill("a yellow bird & a ä #call")
    page.keyboard.press("Enter")
    found(page)
    page.locator("#targets").get_by_text("image", exact=True).click()
    expect(page.locator("#results-title")).to_contain_text("image items")
    first, address = hits(found(page)), page.url
    again = found(open_page(address[address.index("#") :]))
    expect(words(again)).to_have_value("a yellow bird & a ä #call")
    assert hits(again) == first


def test_a_link_says_that_it_holds_no_file(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    slot(page, "image").locator("input[type=file]").set_input_files(png(picture("green", np.random.default_rng(3))))
    found(page)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#link-note")).to_contain_text("Link copied. Your image is not in it")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_back_goes_to_the_question_before(open_page):
    page = found(open_page(link("item-20", "image", target="text")))
    words(page).fill("a blue bird")
    page.keyboard.press("Enter")
    expect(page.locator("#results-title")).to_contain_text("your image + text")
    page.go_back()
    expect(page.locator("#results-title")).to_contain_text("nearest to your image")
    expect(words(page)).to_have_value("")


def test_a_link_to_what_is_gone_says_so(open_page):
    page = open_page(link("nobody", "image") + "&in.text=text:a+blue+bird")
    expect(page.get_by_role("alert")).to_contain_text("Part of this link could not be followed")
    found(page)


def test_the_map_shows_where_the_query_lands(open_page):
    page = found(open_page(link("item-20", "image", "audio", target="text")))
    canvas = page.get_by_role("img", name="Map of 48 items by their text, with your query")
    expect(page.get_by_role("heading", name="Where your query lands")).to_be_visible()
    canvas.scroll_into_view_if_needed()
    until(page, PAINTED)
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    canvas.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    until(page, "before => document.querySelector('#map canvas').toDataURL() !== before", before)
    page.get_by_role("button", name="Show all of the map").click()
    until(page, "before => document.querySelector('#map canvas').toDataURL() === before", before)
    page.get_by_text("The map as a list").click()
    page.locator("#map .near button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_click_on_a_point_shows_its_item(open_page):
    page = open_page()
    canvas = page.locator("#map canvas")
    expect(page.get_by_role("heading", name="Map of the collection")).to_be_visible()
    until(page, PAINTED)
    canvas.scroll_into_view_if_needed()
    place = page.evaluate(FIRST_POINT)
    place = {"x": int(place["x"]), "y": int(place["y"])}
    canvas.hover(position=place)
    expect(page.locator("#map .tip")).to_be_visible()
    canvas.click(position=place)
    expect(page.get_by_role("dialog")).to_contain_text("hertz")


def test_an_item_is_shown_and_asked_with(open_page):
    id = "dir/ä b?&#"
    page = found(open_page(f"#in.sensor={quote('item:' + id)}&target=text"))
    page.locator(f"{MAIN} .id", has_text=id).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name=id)).to_be_visible()
    expect(dialog.locator("svg.numbers")).to_be_visible()
    until(page, "() => document.querySelector('dialog img')?.naturalWidth > 0")
    dialog.get_by_role("button", name="Ask with this image").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#mix")).to_contain_text("The model was not trained to fuse image + sensor")
    expect(page.locator("#results-title")).to_contain_text("your image + sensor")


def test_a_sound_is_played_and_stopped(open_page):
    page = found(open_page(link("item-20", "image", target="text")))
    page.evaluate("HTMLMediaElement.prototype.play = async function () { this.dispatchEvent(new Event('playing')); }")
    button = page.locator(f"{MAIN} .play").first
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
