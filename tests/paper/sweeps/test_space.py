"""What is written on the command line for a sweep or a search, and what is refused."""

import pytest

from confu.methods import DOMAINS, check_tweaks, tweaks
from confu_paper.sweeps.grid import grid_points, parse_grid
from confu_paper.sweeps.search import parse_space, space_text

optuna = pytest.importorskip("optuna")


def test_a_grid_is_read_with_its_kinds_of_numbers():
    grid = parse_grid(["fused_weight=0.1, 0.3", "dim=16,64", "lr=1e-3"])
    assert grid == {"fused_weight": (0.1, 0.3), "dim": (16, 64), "lr": (0.001,)}
    assert [type(value) for values in grid.values() for value in values] == [float, float, int, int, float]


def test_grid_points_are_every_combination():
    assert grid_points({"dim": (1, 2), "lr": (0.1, 0.2)}) == [
        {"dim": 1, "lr": 0.1}, {"dim": 1, "lr": 0.2}, {"dim": 2, "lr": 0.1}, {"dim": 2, "lr": 0.2},
    ]  # fmt: skip
    assert grid_points({}) == [{}]


def test_a_space_is_read():
    texts = ["lr=log:1e-4:1e-2", "mask_ratio=0:0.5", "fusion_dim=128|256|512", "fusion_depth=int:1:3", "dim=log:8:256"]
    numbers, whole = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    assert parse_space(texts) == {
        "lr": numbers(1e-4, 1e-2, log=True),
        "mask_ratio": numbers(0.0, 0.5),
        "fusion_dim": optuna.distributions.CategoricalDistribution((128, 256, 512)),
        "fusion_depth": whole(1, 3),
        "dim": whole(8, 256, log=True),
    }


def test_a_space_prints_what_is_read_again():
    texts = [
        "lr=log:0.0001:0.01",
        "mask_ratio=0:0.5",
        "fusion_dim=128|256",
        "fusion_depth=int:1:3",
        "dim=int:log:8:256",
    ]
    assert [f"{name}={space_text(values)}" for name, values in parse_space(texts).items()] == texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fused_wieght=0.1", "setting 'fused_wieght' is not known; did you mean 'fused_weight'"),
        ("0.1,0.3", "'0.1,0.3' must be NAME=VALUES, e.g. fused_weight=0.1,0.3"),
        ("fused_weight=", "fused_weight has no values; write e.g. fused_weight=0.1,0.3"),
        ("fused_weight=0.1,,0.3", "there is nothing before or after a ','"),
        ("fused_weight=0.1,0.10", "a value stands twice"),
        ("fused_weight=a", r"fused_weight must be a number in \[0, 1\]; got a"),
        ("fused_weight=1.5", r"fused_weight must be a number in \[0, 1\]; got 1.5"),
        ("mask_ratio=1", r"mask_ratio must be a number in \[0, 1\); got 1"),
        ("lr=nan", "lr must be a number above 0; got nan"),
        ("lr=inf", "lr must be a number above 0; got inf"),
        ("dim=16.5", "dim must be a whole number of at least 1; got 16.5"),
        ("batch_size=1", "batch_size must be a whole number of at least 2; got 1"),
        ("dim=16|32", "a grid lists its values with commas"),
        ("lr=log:1e-4:1e-2", "ranges and | are for a search"),
    ],
)
def test_a_bad_grid_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_grid([text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=log:1e-4:1e-2", "setting 'lrr' is not known; did you mean 'lr'"),
        ("lr=lgo:1e-4:1e-2", "kind of range in lr=lgo:1e-4:1e-2: 'lgo' is not known; did you mean 'log'"),
        ("lr=int:1:2", "lr need not be whole; leave out 'int:'"),
        ("lr=1e-2:1e-4", "a range goes from low to high; got 0.01 and 0.0001"),
        ("mask_ratio=log:0:0.5", "a logarithm cannot start at 0"),
        ("mask_ratio=0:1", r"mask_ratio must be a number in \[0, 1\); got 1"),
        ("dim=1:2.5", "dim must be a whole number of at least 1; got 2.5"),
        ("fusion_dim=128,256", r"a search lists its choices with \|, e.g. fusion_dim=128\|256"),
        ("fusion_dim=128|", r"there is nothing before or after a '\|'"),
        ("lr=:", "lr must be a number above 0; got "),
    ],
)
def test_a_bad_space_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_space([text])


@pytest.mark.parametrize("parse", [parse_grid, parse_space])
def test_a_name_given_twice_is_refused(parse):
    with pytest.raises(ValueError, match="dim is given twice: dim=16 and dim=32"):
        parse(["dim=16", "dim=32"])


def test_grid_points_refuse_empty_and_repeated_values():
    with pytest.raises(ValueError, match="dim has no values"):
        grid_points({"dim": ()})
    with pytest.raises(ValueError, match="dim has a value twice: 4, 4"):
        grid_points({"dim": (4, 4)})


def test_tweaks_are_checked_by_name_and_number():
    check_tweaks({"dim": 4, "lr": 0.1})
    with pytest.raises(ValueError, match="setting 'dims' is not known; did you mean 'dim'"):
        check_tweaks({"dims": 4})
    with pytest.raises(ValueError, match="temperature must be a number above 0; got 0"):
        check_tweaks({"temperature": 0})


def test_every_setting_that_a_recipe_takes_has_a_domain():
    assert {*tweaks.MODEL_TWEAKS, *tweaks.TRAIN_TWEAKS, *tweaks.FUSION_TWEAKS, "temperature"} == set(DOMAINS)
