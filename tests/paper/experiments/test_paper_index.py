"""The index of the paper: whole, and consistent with the numbers that we hold."""

import importlib.resources
import io
import re

import pytest
from rich.console import Console

from confu_paper.experiments.paper_index import EXPERIMENTS, SOURCES, entry, index, index_markdown, index_table
from confu_paper.experiments.published import STATEMENTS, VALUES


def test_every_table_and_figure_stands_once_in_order():
    names = [f"table{i}" for i in range(1, 10)] + [f"fig{i}" for i in range(1, 15)]
    assert [one.name for one in index()] == names
    assert len({one.title for one in index()}) == len(names)


@pytest.mark.parametrize("one", index(), ids=lambda one: one.name)
def test_an_entry_is_complete_or_is_not_an_experiment(one):
    if one.experiment is None:
        assert not (one.data or one.trained_on or one.also or one.protocol or one.unclear or one.values)
        assert one.availability(EXPERIMENTS) == "not an experiment"
        return
    assert one.experiment in EXPERIMENTS
    assert one.data and one.protocol and one.unclear and one.measures
    assert {*one.data, *one.trained_on} <= set(SOURCES)
    assert one.also is None or (one.also in SOURCES and one.also not in one.data)
    assert one.frames == "eight" or set(one.data) <= {"ssw60", "vb100"}
    assert {number.data for number in (*one.values, *one.statements)} <= set(one.data)


def test_every_published_number_belongs_to_an_entry_with_its_data():
    assert sum(len(one.values) for one in index()) == len(VALUES)
    assert sum(len(one.statements) for one in index()) == len(STATEMENTS)
    for one in index():
        if one.values:
            assert {number.data for number in one.values} == set(one.data)
        assert not (one.values and one.name.startswith("fig"))


def test_every_experiment_belongs_to_an_entry():
    assert {one.experiment for one in index()} - {None} == set(EXPERIMENTS)


def test_sources_say_what_where_and_how_the_files_lie():
    for source in SOURCES.values():
        assert source.what and source.get
        assert source.layout or source.name == "xor"
    assert {source for one in index() for source in (*one.data, *one.trained_on)} == set(SOURCES) - {"mosei"}


def test_what_can_be_run_depends_on_what_is_connected():
    assert {one.availability(()) for one in index()} == {"no recipe yet", "not an experiment"}
    assert entry("table1").availability({"zero-shot"}) == "on av-mnist"
    assert entry("table2").availability({"retrieval"}) == "on mosi, ur-funny, mustard, or --on av-mnist"
    assert entry("table5").availability(EXPERIMENTS) == "on ssw60, vb100"


@pytest.mark.parametrize("name", ["table6", "Table 6", " TABLE6 "])
def test_a_table_is_found_however_it_is_written(name):
    assert entry(name).label == "Table 6"


@pytest.mark.parametrize("name", ["fig14", "Fig. 14", "figure 14", "Figure14"])
def test_a_figure_is_found_however_it_is_written(name):
    assert entry(name).label == "Fig 14"


@pytest.mark.parametrize(("name", "closest"), [("tabel6", "table6"), ("fgi3", "fig3"), ("table", "table[1-9]")])
def test_an_unknown_name_gets_the_closest(name, closest):
    with pytest.raises(ValueError, match=f"'{name}' is not known; did you mean '{closest}'.*Known: 'table1', "):
        entry(name)


def test_renderings_have_every_entry_and_only_what_is_connected():
    connected = {"xor", "zero-shot"}
    stream = io.StringIO()
    Console(file=stream, width=200).print(index_table(connected))
    markdown = index_markdown(connected)
    for one in index():
        assert re.search(rf"\b{one.name}\b", stream.getvalue())
        assert f"| {one.name} | {one.title} |" in markdown
    assert len({line.count("|") for line in markdown.splitlines()}) == 1
    assert markdown.count("no recipe yet") == sum(
        one.experiment is not None and one.experiment not in connected for one in index()
    )
    with pytest.raises(ValueError, match="experiment 'zeroshot' is not known; did you mean 'zero-shot'"):
        index_markdown({"zeroshot"})


def test_the_page_of_an_entry_names_files_and_numbers():
    page = entry("table6").to_markdown({"noise"})
    assert "Can be run: on ssw60, or --on av-mnist." in page
    assert "The paper prints 5 numbers." in page
    assert "video_ml/<asset_id>.mp4" in page and "zenodo.org/records/18920487" in page
    page = entry("fig6").to_markdown()
    assert "- gram, smallest dimension that solves XOR at p = 1: more than 1024" in page
    assert "- confu, smallest dimension that solves XOR at p = 1: 64" in page
    assert "gram, accuracy of x1+x3 -> x2 at every p (%): at most 15" in entry("fig3").to_markdown()
    assert ": 5 to 6" in entry("fig5").to_markdown()
    assert entry("fig1").to_markdown().endswith("Not an experiment.\n")


@pytest.mark.parametrize("file", ["published.toml", "paper_index.toml"])
def test_the_data_files_are_in_the_package(file):
    assert importlib.resources.files("confu_paper.experiments").joinpath(file).is_file()
