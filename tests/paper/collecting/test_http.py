import hashlib
import logging
from itertools import pairwise

import pytest
from PIL import Image

from confu_paper.collecting.client import Client, FileLimits, Refused, Unavailable, file_facts
from paper.collecting.clock import Clock
from paper.collecting.faulty_server import KEY, picture

MOST = 1 << 20
PICTURE = FileLimits("image", MOST)


def photo(server, number=7):
    return f"{server.base}/photos/{number}/medium.jpg"


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_gets_the_suffix_of_its_content(server, client, tmp_path):
    got = client.download(photo(server), tmp_path / "a" / "7", PICTURE)
    assert got == tmp_path / "a" / "7.jpg" and got.read_bytes() == picture(7) and len(server.asked) == 1
    facts = {"file": "7.jpg", "bytes": len(picture(7)), "sha256": hashlib.sha256(picture(7)).hexdigest()}
    assert file_facts(got, tmp_path / "a") == facts
    (agent,) = server.agents
    assert agent.startswith("contrastive-fusion/") and "(ada@example.org)" in agent and "requests/" in agent


@pytest.mark.parametrize("contact", ["", "me", "@", "a@b\n"])
def test_a_contact_is_needed(contact):
    with pytest.raises(ValueError, match="contact: expected an e-mail address or a web page"):
        Client(contact)


def test_requests_to_a_host_keep_its_rate(server, clock, tmp_path):
    client = clock.client(rates={"127.0.0.1": 4.0})
    began = []
    server.before = lambda path: began.append(clock.now)
    for number in range(6):
        client.download(photo(server, number), tmp_path / str(number), PICTURE)
    assert [later - earlier for earlier, later in pairwise(began)] == [0.25] * 5
    assert clock.naps == [0.25] * 5


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "page", "slow"])
def test_what_passes_is_asked_again(server, clock, tmp_path, fault):
    client = clock.client(timeout=1.0 if fault == "slow" else 10.0)
    server.fail("/photos/", fault, fault)
    got = client.download(photo(server), tmp_path / "7", PICTURE)
    assert got.read_bytes() == picture(7) and files(tmp_path) == ["7.jpg"]
    assert len(server.asked) == 3
    assert len(clock.naps) == 2 and clock.naps[0] == 2.0 and 4.0 <= clock.naps[1] <= 5.0, "each pause is longer"


def test_retry_after_is_kept_and_holds_back_others(server, client, clock, tmp_path):
    server.fail("/photos/7/", "429:7")
    client.download(photo(server), tmp_path / "7", PICTURE)
    assert clock.naps == [7.0]


def test_a_date_as_retry_after(server, client, clock, tmp_path):
    server.fail("/photos/", "503:Wed, 21 Oct 2015 07:28:00 GMT", "503:soon")
    client.download(photo(server), tmp_path / "7", PICTURE)
    assert clock.naps[0] == 1.0, "the date is past; the host's own rate still holds"
    assert 4.0 <= clock.naps[1] <= 5.0, "what cannot be read leaves it to the back-off"


def test_a_host_that_asks_for_a_day_is_left_alone(server, client, clock, tmp_path):
    server.fail("/photos/", "429:86400")
    with pytest.raises(
        Unavailable, match=r"HTTP 429, and it asks us to come back in \d+ seconds; .*run the same again"
    ):
        client.download(photo(server), tmp_path / "7", PICTURE)
    assert clock.naps == [] and len(server.asked) == 1


def test_tries_end(server, client, clock, tmp_path):
    server.fail("/photos/", *["500"] * 9)
    with pytest.raises(Unavailable, match="6 tries failed, the last by HTTP 500"):
        client.download(photo(server), tmp_path / "7", PICTURE)
    assert len(server.asked) == 6 and files(tmp_path) == []
    assert 2 + 4 + 8 + 16 + 32 <= sum(clock.naps) <= 2 + 4 + 8 + 16 + 32 + 4


def test_nobody_there(client, tmp_path):
    with pytest.raises(Unavailable, match="tries failed, the last by ConnectionError"):
        client.download("http://127.0.0.1:9/photo.jpg", tmp_path / "7", PICTURE)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "HTTP 404"),
        ("wrong type", "content type video/x-flv, not image"),
        ("garbage", "its bytes are no image"),
        ("huge", "too large: 1000000000000 bytes announced"),
        ("endless", "too large: more than 1048576 bytes"),
    ],
)
def test_what_stays_wrong_is_refused_at_once(server, client, tmp_path, fault, reason):
    server.fail("/photos/", fault)
    with pytest.raises(Refused, match=reason) as error:
        client.download(photo(server), tmp_path / "7", PICTURE)
    assert error.value.reason.startswith(reason) and len(server.asked) == 1 and files(tmp_path) == []


def test_a_forbidden_file_is_not_asked_again_at_once(server, client, tmp_path):
    server.fail("/photos/", "403")
    with pytest.raises(Unavailable, match="HTTP 403"):
        client.download(photo(server), tmp_path / "7", PICTURE)
    assert len(server.asked) == 1


def test_an_answer_that_says_it_is_shorter_is_found_by_the_check(server, client, tmp_path):
    def check(file):
        try:
            with Image.open(file) as opened:
                opened.load()
        except OSError as error:
            raise ValueError("cut short") from error

    server.fail("/photos/", "short")
    with pytest.raises(Refused, match="not readable: cut short"):
        client.download(photo(server), tmp_path / "7", FileLimits("image", MOST, check))
    assert files(tmp_path) == []


def test_a_drip_ends_at_the_deadline(server, clock, tmp_path):
    client = clock.client(deadline=5.0, tries=2)
    server.fail("/photos/", "endless", "endless")
    ticking = Clock()

    def tick():
        ticking.now += 1.0
        return ticking.now

    client._clock = tick
    with pytest.raises(Unavailable, match="still not whole after 5 seconds"):
        client.download(photo(server), tmp_path / "7", FileLimits("image", 1 << 40))
    assert files(tmp_path) == []


def test_redirects_are_followed_in_their_turn(server, client, clock, tmp_path):
    server.fail("/old", f"redirect:{photo(server)}")
    got = client.download(f"{server.base}/old", tmp_path / "7", PICTURE)
    assert got.read_bytes() == picture(7) and clock.naps == [1.0]
    server.fail("/round", *["redirect:/round"] * 9)
    with pytest.raises(Refused, match="more than 5 redirects"):
        client.download(f"{server.base}/round", tmp_path / "8", PICTURE)
    server.fail("/away", "redirect:file:///etc/passwd")
    with pytest.raises(Refused, match="not an address of the web"):
        client.download(f"{server.base}/away", tmp_path / "8", PICTURE)


@pytest.mark.parametrize("url", ["", "photo.jpg", "ftp://a/b", "http://[bad/x", "http://a b/c"])
def test_addresses_that_are_none(client, tmp_path, url):
    with pytest.raises((Refused, Unavailable)):
        client.download(url, tmp_path / "7", PICTURE)


@pytest.mark.parametrize("fault", ["no json", "page", "garbage", "cut"])
def test_json_that_is_none_is_asked_again(server, client, clock, fault):
    server.fail("/v1/taxa", fault)
    assert client.json(f"{server.base}/v1/taxa", {"q": "Ardea alba"})["results"][0]["id"] == 4956
    assert clock.naps == [2.0]


def test_an_answer_may_say_that_it_is_none_yet(server, client, clock):
    server.fail("/w/api.php", "maxlag:9")
    url = f"{server.base}/w/api.php"
    answer = client.json(url, {"titles": "x"}, again=lambda answer: answer.get("error", {}).get("code"))
    assert "query" in answer and clock.naps == [9.0]


def test_the_key_is_neither_in_messages_nor_in_logs(server, client, caplog):
    url, params = f"{server.base}/api/3/recordings", {"query": "x", "page": 1, "per_page": 50}
    with caplog.at_level(logging.DEBUG):
        assert client.json(url, params, secrets={"key": KEY})["recordings"] == []
        messages = []
        for faults in (["500"] * 6, ["404"], ["429:99999"], ["cut"] * 6):
            server._faults.clear()
            server.fail("recordings", *faults)
            with pytest.raises((Refused, Unavailable)) as error:
                client.json(url, params, secrets={"key": KEY})
            messages.append(str(error.value))
            assert error.value.__suppress_context__ or error.value.__context__ is None
    assert "s3cret" in server.asked[0] and "/api/3/recordings" in caplog.text
    assert "s3cret" not in caplog.text + "".join(messages) and "key=***" in caplog.text
