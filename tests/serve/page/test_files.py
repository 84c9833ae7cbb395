"""The page's files as the server sends them."""

import re

import pytest

from confu.serve.app import PAGE


def test_the_page_and_all_that_it_names_are_there(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in page.headers["content-security-policy"]
    for address in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
        assert client.get(f"/{address}").status_code == 200, address


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
def test_page_files_load_nothing_from_other_hosts(client, file):
    answer = client.get(f"/page/{file.name}")
    assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
    text = file.read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    for name in re.findall(r'from "\./([^"]+)"', text):
        assert (PAGE / name).is_file(), name
    assert len(text.splitlines()) < 200


def test_nothing_beside_the_page_is_sent(client):
    for address in ("/page/../page.py", "/page/%2e%2e/page.py", "/page/..%2f..%2fapp.py", "/page/missing.js"):
        assert client.get(address).status_code == 404
