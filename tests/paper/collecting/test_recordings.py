import pytest

from confu_paper.collecting.collection import Taxon
from confu_paper.collecting.xeno_canto import KEY_VARIABLE, collect_recordings, licence_name
from paper.collecting.faulty_server import KEY, sound
from paper.collecting.killing import EGRET, RAVEN, collection


def collect(server, out, taxa=(EGRET, RAVEN), per_species=1000, **settings):
    return collect_recordings(collection(out, server, taxa, per_species=per_species, **settings))


def test_recordings_are_kept_with_recordist_licence_and_tags(server, tmp_path):
    log = collect(server, tmp_path)
    assert log.counts == {"kept": 8}
    record = next(iter(log))
    number = record["recording"].removeprefix("XC")
    assert (tmp_path / record["file"]).read_bytes() == sound(12.0)
    assert record["file"] == f"recordings/Ardea_alba/{number}.mp3" and record["seconds"] == 12.0
    assert record["licence"] == "cc-by-nc-sa-4.0" and record["licence_url"].startswith("https://creativecommons.org")
    assert record["attribution"].endswith(f", XC{number}. Accessible at https://xeno-canto.org/{number}")
    assert record["tags"] in [{"type": kind, "sex": "male", "stage": "adult"} for kind in ("song", "call, flight call")]
    assert "query=sp%3A%22ardea+alba%22&per_page=500&page=1&key=" in server.asked[0]


def test_as_many_recordings_as_give_the_clips(server, tmp_path):
    log = collect(server, tmp_path, per_species=3)
    assert log.counts == {"kept": 4}, "12 s give two clips"
    asked = len(server.asked)
    assert collect(server, tmp_path, per_species=4).counts == {"kept": 4} and len(server.asked) == asked
    assert collect(server, tmp_path, per_species=5).counts == {"kept": 6} and len(server.asked) == asked + 2


def test_withheld_and_long_recordings_are_skipped(server, tmp_path):
    withheld, long, other, good = server.recordings["ardea alba"]
    withheld["file"], long["length"], other["lic"] = "", "1:00:01", "all rights reserved"
    log = collect(server, tmp_path, [EGRET])
    assert [record["recording"] for record in log] == [f"XC{good['id']}"]


def test_other_names_and_further_pages(server, tmp_path):
    server.recordings["ardea alba"] = server._recordings("Ardea alba", 600)
    taxon = Taxon("Casmerodius albus", None, "4956", ("Ardea alba", "Ardea modesta"))
    log = collect(server, tmp_path, [taxon], per_species=20)
    listed = [path for path in server.asked if "/api/3" in path]
    assert len(listed) == 3 and "page=2" in listed[1] and "modesta" in listed[2] and log.counts == {"kept": 10}


def test_a_species_without_recordings_is_named(server, tmp_path):
    log = collect(server, tmp_path, [Taxon("Raphus cucullatus", "Dodo", "1")])
    assert len(log) == 0 and '"outcome": "no recordings"' in (tmp_path / "recordings_found.jsonl").read_text()


def test_faults_are_survived_or_named(server, tmp_path):
    server.fail("/api/3", "503:20", "page", "no json")
    server.fail("/download", "cut", "500", "page", "wrong type", "garbage", "404", "slow")
    log = collect(server, tmp_path)
    outcomes = log.counts
    assert outcomes.pop("kept") == 5 and sum(outcomes.values()) == 3
    assert all((tmp_path / record["file"]).is_file() for record in log if record["outcome"] == "kept")


def test_the_key_is_needed_and_stays_secret(server, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"set the environment variable {KEY_VARIABLE}"):
        collect(server, tmp_path, key=None)
    assert server.asked == []
    with pytest.raises(ValueError, match=r"key: xeno-canto refuses it: HTTP 401 \(Missing or invalid") as error:
        collect(server, tmp_path, key="wr0ng")
    assert "wr0ng" not in str(error.value)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    collect(server, tmp_path, key=None)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    said = capfd.readouterr()
    assert b"s3cret" not in written and "s3cret" not in said.out + said.err


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("//creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/2.5/", "cc-by-nc-nd-2.5"),
        ("mine", "mine"),
    ],
)
def test_licences_by_their_address(address, name):
    assert licence_name(address) == name
