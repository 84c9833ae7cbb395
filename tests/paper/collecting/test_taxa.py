import pytest

from confu_paper.collecting.client import Client, Unavailable
from confu_paper.collecting.collection import Taxon, read_taxa, resolve_taxa
from paper.collecting.killing import collection

RELEASED = (
    "label,species_code,inat_taxon_id,inat2021_label,nabirds_labels,common_name,scientific_name,family,order,"
    "wikipedia_id,inat_taxon_id_cor,xeno_canto_names\n"
    "0,greegr,4956.0,3111,,Great Egret,Ardea alba,Herons,Pelecaniformes,Great egret,,\n"
    "1,comrav,1.0,3222,,Common Raven,Corvus corax,Crows,Passeriformes,,8029.0,Corvus corax;Corvus corone\n"
)


def taxa_file(folder, text, name="taxa.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_released_table_is_read(tmp_path):
    assert read_taxa(taxa_file(tmp_path, "\ufeff" + RELEASED)) == [
        Taxon("Ardea alba", "Great Egret", "4956", (), "Great egret"),
        Taxon("Corvus corax", "Common Raven", "8029", ("Corvus corax", "Corvus corone")),
    ]


def test_a_list_of_names_is_read(tmp_path):
    text = "# mine\nArdea alba\tGreat Egret\n\nSialia sialis  # a thrush\nCorvus corone cornix\n"
    taxa = read_taxa(taxa_file(tmp_path, text, "names.txt"))
    assert [taxon.scientific_name for taxon in taxa] == ["Ardea alba", "Sialia sialis", "Corvus corone cornix"]
    assert taxa[0].common_name == "Great Egret" and taxa[1].common_name is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scientific_name\nArdea_alba\n", r"taxa\.csv, line 2: expected genus and species.*got 'Ardea_alba'"),
        ("scientific_name\nGreat Egret\n", "line 2: expected genus and species"),
        ("scientific_name\nArdea alba\nArdea alba\n", "line 3: Ardea alba stands in line 2 already"),
        ("scientific_name,taxon_id\nArdea alba,7\nSialia sialis,7.0\n", "line 3: 7 stands in line 2 already"),
        ("scientific_name,taxon_id\nArdea alba,x7\n", "line 2: expected a number as taxon_id; got 'x7'"),
        ("name\nArdea alba\n", "expected a column scientific_name; found name"),
        ("", "expected a column scientific_name; found nothing"),
        ("scientific_name\n", "expected at least one species"),
    ],
)
def test_bad_lists_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_taxa(taxa_file(tmp_path, text))


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_taxa(tmp_path / "none.csv")
    (tmp_path / "latin.txt").write_bytes(b"Ardea alba\tAigrette \xe9")
    with pytest.raises(ValueError, match="expected a text in UTF-8"):
        read_taxa(tmp_path / "latin.txt")


def test_species_are_looked_up_once(server, tmp_path):
    names = ("Ardea alba", "Sialia sialis", "Casmerodius albus", "Raphus cucullatus")
    job = collection(tmp_path, server, [*map(Taxon, names), Taxon("Corvus corax", "Raven", "8029")])
    server.fail("/v1/taxa", "500", "no json")
    log = resolve_taxa(job)
    assert log.counts == {"kept": 3, "the same species as Ardea alba": 1, "unknown to iNaturalist": 1}
    assert log.get("Casmerodius albus")["accepted_name"] == "Ardea alba"
    asked = len(server.asked)
    assert asked == 4 + 2, "one a name without a number, and the two that failed"
    resolve_taxa(job)
    assert len(server.asked) == asked
    assert list(job.taxa.values()) == [
        Taxon("Ardea alba", "Great Egret", "4956"),
        Taxon("Sialia sialis", "Eastern Bluebird", "12942"),
        Taxon("Corvus corax", "Raven", "8029"),
    ]


def test_a_source_that_is_down_leaves_what_was_done(server, tmp_path):
    server.fail("q=Sialia", *["503"] * 6)
    job = collection(tmp_path, server, [Taxon("Ardea alba"), Taxon("Sialia sialis")])
    with pytest.raises(Unavailable, match=r"taxa\?q=Sialia\+sialis.*6 tries failed.*run the same again later"):
        resolve_taxa(job)
    assert resolve_taxa(job).counts == {"kept": 2} and len(server.asked) == 1 + 6 + 1


@pytest.mark.parametrize("answer", [{"result": []}, [], {"results": [{"name": "Ardea alba"}]}, {"results": 7}])
def test_an_answer_of_another_shape_is_named(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(Client, "json", lambda *arguments, **settings: answer)
    with pytest.raises(ValueError, match=r"taxa, Ardea alba: the answer is not what the API's documentation promises"):
        resolve_taxa(collection(tmp_path, taxa=[Taxon("Ardea alba")]))
