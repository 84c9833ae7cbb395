"""What sweeps and searches show: tables with the numbers that were measured, and a figure each."""

import pytest
from matplotlib.figure import Figure

from confu.evaluation.plots import to_svg
from confu_paper.sweeps.figures import search_figure
from confu_paper.sweeps.grid import Measured, SweepResult, grid_points
from confu_paper.sweeps.search import SearchResult, Trial, parse_space
from confu_paper.sweeps.tables import curve_view, mask_differences, mask_view, pareto_view, sweep_table

X, Y = "mean recall@10 1 -> 1", "mean recall@10 2 -> 1"


def result_of(grid, validation, test=None, seeds=(0, 1)):
    """As a sweep would have measured it; both functions are of (settings, seed) and give numbers by name."""
    test = test or validation
    measured = [
        Measured(tweaks, seed, (f"run-{i}-{seed}",), validation(tweaks, seed), test(tweaks, seed))
        for i, tweaks in enumerate(grid_points(grid))
        for seed in seeds
    ]
    return SweepResult("sweep", grid, tuple(seeds), tuple(measured))


def trade(tweaks, seed):
    """λ trades 1 -> 1 against 2 -> 1; 0.9 is worse in both than 0.5."""
    weight = tweaks["fused_weight"]
    return {X: 0.5 - 0.2 * weight + 0.01 * seed, Y: 0.3 + 0.2 * weight - 0.5 * (weight == 0.9)}


def reverse(tweaks, seed):
    return {name: 1 - value for name, value in trade(tweaks, seed).items()}


LAMBDAS = {"fused_weight": (0.1, 0.5, 0.9)}


def test_the_pareto_front_is_that_of_the_validation_numbers():
    table, figure = pareto_view(result_of(LAMBDAS, trade, reverse))
    assert list(table.rows) == ["fused_weight=0.1 *", "fused_weight=0.5 *", "fused_weight=0.9"]
    assert table.rows["fused_weight=0.1 *"][f"validation {X}"].mean == pytest.approx(48.5)
    assert table.rows["fused_weight=0.1 *"][f"test {X}"].mean == pytest.approx(51.5)
    assert table.rows["fused_weight=0.1 *"][f"validation {X}"].std == pytest.approx(1 / 2**0.5)
    assert table.columns == (f"validation {X}", f"validation {Y}", f"test {X}", f"test {Y}")
    assert isinstance(figure, Figure) and ">0.9<" in to_svg(figure)


def test_the_front_is_of_numbers_that_are_better_when_higher():
    with pytest.raises(ValueError, match="loss is better when it is lower"):
        pareto_view(result_of(LAMBDAS, trade), "loss", Y)
    with pytest.raises(ValueError, match="validation number 'accuracy' is not known"):
        pareto_view(result_of(LAMBDAS, trade), "accuracy", Y)


def test_the_table_marks_the_point_that_validation_chooses():
    table = sweep_table(result_of(LAMBDAS, trade, reverse), Y)
    assert [label for label in table.rows if label.endswith("(chosen)")] == ["fused_weight=0.5 (chosen)"]
    assert table.columns == (f"validation {Y}", f"test {Y}")
    assert "the highest mean of validation" in table.notes[0] and "0.4" in table.notes[0]
    assert min(table.rows, key=lambda label: table.rows[label][f"test {Y}"].mean) == "fused_weight=0.5 (chosen)"
    assert "validation" in table.to_latex() and "| settings |" in table.to_markdown()


def masked(tweaks, seed):
    change = tweaks["mask_ratio"] * (1 if tweaks["fused_weight"] == 0.1 else -1)
    return {"accuracy a": 0.5 + change, "recall@10 a -> c": 0.4 + 0.1 * seed, "median rank a -> c": 5 + 10 * change}


MASKS = {"fused_weight": (0.1, 0.5), "mask_ratio": (0.0, 0.1, 0.3)}


def test_mask_differences_have_all_else_in_common():
    """Oracle: for each λ, ratio and seed, the number there less the number at ratio 0 of the same λ and seed."""
    result = result_of(MASKS, masked)
    found = mask_differences(result, ["accuracy a", "recall@10 a -> c"])
    by_place = {(*one.tweaks.values(), one.seed): one.test for one in result.measured}
    for name, values in found.items():
        expected = [
            by_place[weight, ratio, seed][name] - by_place[weight, 0.0, seed][name]
            for weight in (0.1, 0.5)
            for ratio in (0.1, 0.3)
            for seed in (0, 1)
        ]
        assert sorted(values) == pytest.approx(sorted(expected))
    assert found["recall@10 a -> c"] == [0.0] * 8  # though the seeds differ


def test_the_mask_table_is_at_one_setting_and_the_boxes_over_all():
    names, at = ["accuracy a", "median rank a -> c"], {"fused_weight": 0.5, "mask_ratio": 0.3}
    table, figure = mask_view(result_of(MASKS, masked), names, at)
    cells = table.rows["accuracy a"]
    assert [cells[column].mean for column in ("without mask", "with mask", "Δ")] == pytest.approx([50.0, 20.0, -30.0])
    assert table.rows["median rank a -> c"]["Δ"].mean == pytest.approx(-3.0)
    assert "2 pairs (fused_weight=0.5 mask_ratio=0.3, seeds 0, 1)" in table.notes[0]
    assert "n = 8" in to_svg(figure)


@pytest.mark.parametrize(
    ("grid", "at", "message"),
    [
        ({"fused_weight": (0.1,)}, None, "setting of the sweep 'mask_ratio' is not known"),
        ({"fused_weight": (0.1,), "mask_ratio": (0.3,)}, None, "no runs with and without mask to compare: sweep"),
        (MASKS, {"mask_ratio": 0.2}, "no runs with and without mask to compare at mask_ratio=0.2"),
        (MASKS, {"dim": 4}, "setting of the sweep 'dim' is not known"),
    ],
)
def test_nothing_to_compare_is_refused(grid, at, message):
    result = result_of(grid, lambda *_: {"accuracy a": 0.5})
    with pytest.raises(ValueError, match=message):
        mask_view(result, ["accuracy a"], at)


def test_curves_have_a_line_per_other_setting():
    grid = {"dim": (2, 16, 64), "fusion_depth": (1, 2), "fusion_dim": (128,)}
    result = result_of(
        grid, lambda tweaks, seed: {"accuracy a": tweaks["dim"] / 100 + 0.1 * tweaks["fusion_depth"] + 0.02 * seed}
    )
    table, figure = curve_view(result, "dim", "accuracy a")
    assert list(table.rows) == ["fusion_depth=1", "fusion_depth=2"]
    assert table.columns == ("dim=2", "dim=16", "dim=64")
    assert table.rows["fusion_depth=2"]["dim=16"].mean == pytest.approx(37.0)
    assert figure.axes[0].get_xscale() == "log"
    assert curve_view(result, "fusion_depth", "accuracy a")[1].axes[0].get_xscale() == "linear"
    with pytest.raises(ValueError, match="test number 'accuracy b' is not known"):
        curve_view(result, "dim", "accuracy b")
    with pytest.raises(ValueError, match="setting of the sweep 'lr' is not known"):
        curve_view(result, "lr", "accuracy a")


def test_a_sweep_of_one_setting_has_one_curve():
    table, _ = curve_view(result_of({"dim": (2, 4)}, lambda *_: {"loss": 1.0}), "dim", "loss")
    assert table.rows["loss"]["dim=2"].mean == 1.0  # a loss is no share


def search_of(values, objective):
    space = parse_space(["lr=log:1e-4:1e-1", "fusion_depth=1:3", "fusion_dim=128|256"])
    tweaks = [{"lr": 10.0 ** (-i % 3 - 3), "fusion_depth": 1 + i % 3, "fusion_dim": 128} for i in range(len(values))]
    trials = tuple(Trial(i, tweaks[i], value, ()) for i, value in enumerate(values))
    return SearchResult("search", space, objective, 0, (0,), trials, {})


def test_the_history_shows_the_best_so_far():
    result = search_of([0.3, 0.2, 0.5, 0.4], "accuracy a")
    assert result.best.number == 2
    losses = search_figure(search_of([0.3, 0.2, 0.5], "loss"))
    assert list(losses.axes[0].lines[0].get_ydata()) == [0.3, 0.2, 0.2]
    figure = search_figure(result)
    assert list(figure.axes[0].lines[0].get_ydata()) == [30, 30, 50, 50]
    assert figure.get_supylabel() == "validation accuracy a (%)"


def test_every_searched_setting_has_a_panel():
    _, *shown = search_figure(search_of([0.3, 0.2, 0.5, 0.4], "loss")).axes
    assert [axes.get_xlabel() for axes in shown] == ["lr", "fusion_depth", "fusion_dim"]
    assert [axes.get_xscale() for axes in shown] == ["log", "linear", "linear"]
    assert [label.get_text() for label in shown[2].get_xticklabels()] == ["128", "256"]


def test_a_search_without_trials_shows_nothing():
    with pytest.raises(ValueError, match="search search has no finished trial"):
        search_figure(search_of([], "loss"))
