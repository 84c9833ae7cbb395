"""The index of the paper: whole, and consistent with the numbers that we hold."""

import importlib.resources
import io
import re

import pytest
from rich.console import Console

from confu_paper.datasets.registry import data_sets
from confu_paper.experiments.paper_index import EXPERIMENTS, entry, index, index_table
from confu_paper.experiments.published import STATEMENTS, VALUES


def test_every_table_and_figure_stands_once_in_order():
    names = [f"table{i}" for i in range(1, 10)] + [f"fig{i}" for i in range(1, 15)]
    assert [one.name for one in index()] == names
    assert len({one.title for one in index()}) == len(names)


@pytest.mark.parametrize("one", index(), ids=lambda one: one.name)
def test_an_entry_is_complete_or_is_not_an_experiment(one):
    if one.experiment is None:
        assert not (one.data or one.trained_on or one.also or one.protocol or one.unclear or one.values)
        assert one.availability == "not an experiment"
        return
    assert one.experiment in EXPERIMENTS
    assert one.data and one.protocol and one.unclear and one.measures
    assert {*one.data, *one.trained_on} <= set(data_sets())
    assert one.also is None or (one.also in data_sets() and one.also not in one.data)
    assert one.frames == "eight" or set(one.data) <= {"ssw60", "vb100"}
    statements = [statement for statement in STATEMENTS if statement.source == one.name]
    assert {number.data for number in (*one.values, *statements)} <= set(one.data)


def test_published_numbers_belong_to_entries():
    assert sum(len(one.values) for one in index()) == len(VALUES)
    assert {statement.source for statement in STATEMENTS} <= {one.name for one in index()}
    for one in index():
        if one.values:
            assert {number.data for number in one.values} == set(one.data)
        assert not (one.values and one.name.startswith("fig"))


def test_every_experiment_belongs_to_an_entry():
    assert {one.experiment for one in index()} - {None} == set(EXPERIMENTS)


def test_sources_say_what_where_and_how_the_files_lie():
    for source in data_sets().values():
        assert source.what and source.get
        assert source.layout or source.name == "xor"
    assert {source for one in index() for source in (*one.data, *one.trained_on)} == set(data_sets()) - {"mosei"}


def test_the_index_says_on_which_data_an_entry_runs():
    assert entry("table1").availability == "on av-mnist"
    assert entry("table2").availability == "on mosi, ur-funny, mustard, or --on av-mnist"
    assert entry("table5").availability == "on ssw60, vb100"


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


def test_the_table_has_every_entry():
    stream = io.StringIO()
    Console(file=stream, width=200).print(index_table())
    for one in index():
        assert re.search(rf"\b{one.name}\b", stream.getvalue())


@pytest.mark.parametrize("file", ["published.toml", "paper_index.toml"])
def test_the_data_files_are_in_the_package(file):
    assert importlib.resources.files("confu_paper.experiments").joinpath(file).is_file()
