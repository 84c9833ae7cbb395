import pytest

from confu_paper.collecting.client import Unavailable
from confu_paper.collecting.collection import Taxon
from confu_paper.collecting.wikipedia import collect_sections, sections_of
from paper.collecting.faulty_server import article
from paper.collecting.killing import EGRET, collection


def collect(server, out, *taxa):
    return collect_sections(collection(out, server, taxa or (EGRET,)))


def test_sections_are_kept_with_revision_and_licence(server, tmp_path):
    log = collect(server, tmp_path)
    assert [record["section"] for record in log] == ["Lead", "Description", "Behaviour: Voice"]
    record = next(iter(log))
    assert record["key"] == "4956/000 Lead" and record["text"].startswith("The great egret (Ardea alba)")
    assert (record["licence"], record["revision"], record["title"]) == ("CC BY-SA 4.0", 1_000_010, "Great Egret")
    assert (
        record["source_url"] == f"{server.base}/w/index.php?oldid=1000010"
        and "revision 1000010" in record["attribution"]
    )
    collect(server, tmp_path)
    assert len(server.asked) == 1 and "maxlag=5" in server.asked[0] and "redirects=1" in server.asked[0]


def test_the_article_is_looked_for_under_several_names(server, tmp_path):
    server.articles["Egret"] = {**article("Egretta thula", "Egret")}
    server.articles["Casmerodius albus"] = {**article("Ardea alba", "x"), "pageprops": {"disambiguation": ""}}
    taxon = Taxon("Casmerodius albus", "Ardea alba", "4956", article="Egret")
    server.articles["Ardea alba"]["extract"] += " Once Casmerodius albus."
    log = collect(server, tmp_path, taxon)
    assert len(server.asked) == 3 and {record["title"] for record in log} == {"Great Egret"}
    told = (tmp_path / "articles.jsonl").read_text()
    assert "another subject: Egret" in told and "the title has several meanings" in told


def test_a_page_number_as_article(server, tmp_path):
    server.articles["1000"] = article("Ardea alba", "Great Egret")
    assert len(collect(server, tmp_path, Taxon("Ardea alba", None, "4956", article="1000"))) == 3
    assert "pageids=1000" in server.asked[0]


def test_a_species_without_article_is_named(server, tmp_path):
    assert len(collect(server, tmp_path, Taxon("Raphus cucullatus", "Dodo", "1"))) == 0
    assert (tmp_path / "articles.jsonl").read_text().count("no such article") == 2


def test_faults_are_survived(server, tmp_path):
    server.fail("/w/api.php", "maxlag:3", "429", "cut", "page", "no json")
    assert len(collect(server, tmp_path)) == 3 and len(server.asked) == 6
    server.fail("/w/api.php", *["maxlag:3"] * 6)
    with pytest.raises(Unavailable, match="the last by maxlag: Waiting for a database"):
        collect(server, tmp_path / "other")
    assert len(collect(server, tmp_path / "other")) == 3


def test_short_sections_and_lists_are_left_out():
    said = "It calls all night from the reeds near the lake. " * 3
    text = f"{said}\n== Range ==\nEurope.\n== See also ==\n{said}\n=== Notes on it ===\n{said}\n== Diet ==\n{said}"
    assert [title for title, _ in sections_of(text)] == ["Lead", "Diet"]
    assert sections_of("") == []
