import hashlib

import pytest

from confu_paper.collecting.client import Unavailable
from confu_paper.collecting.fetch import Downloads
from confu_paper.collecting.inaturalist import LICENCES, collect_photos
from paper.collecting.faulty_server import FaultyServer
from paper.collecting.killing import EGRET, RAVEN, collection


def collect(server, out, per_species=4, taxa=(EGRET, RAVEN), **settings):
    return collect_photos(collection(out, server, taxa, per_species=per_species, **settings))


def photos(server):
    return [path for path in server.asked if path.startswith("/photos/")]


def test_photos_are_kept_with_licence_and_author(server, tmp_path):
    log = collect(server, tmp_path)
    assert log.counts == {"kept": 8} and len(photos(server)) == 8
    for record in log:
        content = (tmp_path / record["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["sha256"] and len(content) == record["bytes"]
        assert record["file"] == f"photos/{record['key']}.jpg" and record["key"].startswith(record["taxon_id"])
        assert record["licence"] in LICENCES and record["attribution"].startswith("(c) user")
        assert record["source_url"].endswith("/medium.jpg") and "inaturalist.org/photos/" in record["page_url"]
    observations = [record["observation"] for record in log]
    assert len(set(observations)) == 8, "different observations come first"
    assert "quality_grade=research" in server.asked[0] and "photo_license=cc0%2Ccc-by%2Ccc-by-nc" in server.asked[0]


def test_the_choice_is_that_of_the_seed(server, tmp_path):
    keys = [{record["key"] for record in collect(server, tmp_path / name, seed=seed)} for name, seed in
            (("a", 0), ("b", 0), ("c", 1))]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


def test_a_finished_run_requests_only_what_is_new(server, tmp_path):
    first = {record["key"] for record in collect(server, tmp_path)}
    asked = len(server.asked)
    collect(server, tmp_path)
    assert len(server.asked) == asked
    log = collect(server, tmp_path, per_species=6)
    assert len(server.asked) == asked + 4 and first < {record["key"] for record in log}


@pytest.fixture
def fetched(monkeypatch):
    """What would be fetched, without fetching it."""
    wanted = []
    monkeypatch.setattr(Downloads, "keep", lambda downloads, one: not wanted.append(one))
    return wanted


def test_a_file_without_its_note_is_not_fetched_again(server, tmp_path):
    log = collect(server, tmp_path)
    asked, lines = len(server.asked), log.file.read_text().splitlines(keepends=True)
    log.file.write_text("".join(lines[:-1]))
    assert collect(server, tmp_path).counts == {"kept": 8} and len(server.asked) == asked
    assert log.file.read_text() == "".join(lines)


def test_many_observations_are_drawn_from_random_places(tmp_path, fetched):
    with FaultyServer(observations=1500) as server:
        collect(server, tmp_path, per_species=150, taxa=[EGRET])
        assert len(server.asked) == 1 + 2 and all("id_above" in page for page in server.asked[1:]), (
            "not all are asked for"
        )
        newest = max(one["id"] for one in server.observations["4956"]) - 300
        assert sum(one.record["observation"] > newest for one in fetched) < 150, "not the newest alone"
    assert len({one.record["observation"] for one in fetched}) == 150


def test_some_observations_are_read_page_by_page(tmp_path, fetched):
    with FaultyServer(observations=700) as server:
        collect(server, tmp_path, per_species=300, taxa=[EGRET])
        assert len(server.asked) == 3 and all("id_below" in page for page in server.asked[1:])
    assert len({one.key for one in fetched}) == 300


def test_fewer_photos_than_asked_for_and_none(server, tmp_path):
    server.observations["8029"] = []
    log = collect(server, tmp_path, per_species=50)
    kept = [record for record in log if record["taxon_id"] == "4956"]
    # Twelve observations, every second one with two photos; of five licences, three may be taken.
    usable = {photo["id"] for one in server.observations["4956"] for photo in one["photos"]
              if photo["license_code"] in LICENCES}  # fmt: skip
    assert {int(record["key"].split("/")[1]) for record in kept} == usable and len(log) == len(usable)
    assert '"outcome": "no photos"' in (tmp_path / "photos_found.jsonl").read_text()


def test_faults_are_survived_or_named(server, tmp_path):
    server.fail("/v1/observations", "429:3", "no json", "cut")
    server.fail("/photos/", "cut", "500", "page", "wrong type", "garbage", "404", "short", "huge", "endless", "slow")
    log = collect(server, tmp_path)
    assert log.counts["kept"] == 8, "others are taken for those that cannot be had"
    assert {outcome.split(":")[0]: count for outcome, count in log.counts.items()} == {
        "kept": 8, "content type video/x-flv, not image": 1, "its bytes are no image": 1, "HTTP 404": 1,
        "not readable": 1, "too large": 1,
    }  # fmt: skip
    assert sum("announced" in outcome or "more than" in outcome for outcome in log.counts) == 2
    names = sorted(path.name for path in (tmp_path / "photos").rglob("*.*"))
    assert len(names) == 8 and all(name.endswith(".jpg") and name[0] != "." for name in names)


def test_a_broken_photo_is_skipped_a_broken_host_stops(server, tmp_path):
    server.fail("/photos/", *["500"] * 6)
    log = collect(server, tmp_path)
    assert log.counts == {"kept": 8, "lost: 6 tries failed, the last by HTTP 500": 1}
    server.fail("/photos/", *["403"] * 5)
    with pytest.raises(Unavailable, match=r"HTTP 403.*what was finished is kept, run the same again later"):
        collect(server, tmp_path / "other")
    assert collect(server, tmp_path / "other").counts == {"kept": 8}, "nothing was noted of those five"


def test_nothing_is_noted_while_nothing_comes(server, tmp_path):
    server.observations["4956"] = server.observations["4956"][:1]
    server.fail("/photos/", "403")
    with pytest.raises(Unavailable, match=r"HTTP 403; nothing could be had, not 4956/\d+"):
        collect(server, tmp_path, taxa=[EGRET])
    assert collect(server, tmp_path, taxa=[EGRET]).counts == {"kept": 1}


def test_answers_that_no_api_gives(server, tmp_path):
    server.observations["4956"][0]["photos"] = [
        {"id": "../../../escaped", "license_code": "cc0", "url": f"{server.base}/photos/1/square.jpg"},
        {"id": 5, "license_code": "cc0", "url": "file:///etc/square.jpg"},
    ]
    log = collect(server, tmp_path / "inner", per_species=50, taxa=[EGRET])
    assert not list(tmp_path.rglob("escaped*")) and log.get("4956/5")["outcome"] == "not an address of the web"
    del server.observations["8029"][3]["photos"]
    server.observations["8029"][4]["photos"] = None
    message = "photos_found.jsonl, 8029/newest: the answer is not what the API's documentation promises"
    with pytest.raises(ValueError, match=message):
        collect(server, tmp_path / "inner", per_species=50)


def test_flagged_photos_are_left_out(server, tmp_path):
    for one in server.observations["4956"]:
        one["photos"][0]["flags"] = [{"flag": "copyright infringement"}]
    firsts = {one["photos"][0]["id"] for one in server.observations["4956"]}
    assert not firsts & {int(record["key"].split("/")[1]) for record in collect(server, tmp_path, taxa=[EGRET])}


def test_bad_settings(server, tmp_path):
    with pytest.raises(ValueError, match="size 'tiny' is not known"):
        collect(server, tmp_path, photo_size="tiny")
    with pytest.raises(ValueError, match="per_species: expected 1 or more; got 0"):
        collect(server, tmp_path, per_species=0)
    collect(server, tmp_path)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        collect(server, tmp_path, seed=1)
