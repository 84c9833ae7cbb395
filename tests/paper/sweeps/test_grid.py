"""A sweep does what is missing only, and chooses by validation numbers alone."""

import json
from dataclasses import replace

import pytest

from confu_paper.experiments.benchmark import Request
from confu_paper.sweeps.grid import sweep
from confu_paper.sweeps.numbers import validation_metrics, with_means
from paper.sweeps.fake_recipe import FakeRecipe

GRID = {"fused_weight": (0.1, 0.5), "mask_ratio": (0.0, 0.3)}
SEEDS = (0, 1)


def run(recipe, runs, grid=GRID, seeds=SEEDS, **more):
    return sweep(recipe, grid, "sweep", Request(seeds=seeds, runs=runs, progress=False), **more)


def accuracy(tweaks, seed):
    return tweaks["fused_weight"] + 0.1 * seed


def test_every_point_is_run_at_every_seed(tmp_path):
    recipe = FakeRecipe(accuracy, accuracy)
    result = run(recipe, tmp_path)
    assert len(recipe.finished) == len(set(recipe.finished)) == 8
    assert recipe.finished[0].endswith("s0") and recipe.finished[3].endswith("s0") and recipe.finished[4].endswith("s1")
    assert [point.tweaks for point in result.points] == [
        {"fused_weight": a, "mask_ratio": b} for a in (0.1, 0.5) for b in (0.0, 0.3)
    ]
    mean, std = result.points[0].validation("accuracy a+b")
    assert (mean, std) == (pytest.approx(0.15), pytest.approx(0.1 / 2**0.5))
    assert result.points[0].test("accuracy a+b")[0] == pytest.approx(0.15)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_killed_sweep_runs_only_what_is_missing(error, tmp_path):
    recipe = FakeRecipe(accuracy, accuracy)
    recipe.stop_in_run(3, error)
    with pytest.raises(type(error)):
        run(recipe, tmp_path)
    assert len(recipe.finished) == 2
    kept = json.loads((tmp_path / "sweeps" / "sweep" / "result.json").read_text())
    assert [one["runs"][0] for one in kept["measured"]] == recipe.finished
    assert not list(tmp_path.rglob(".*.partial"))

    again = FakeRecipe(accuracy, accuracy)
    result = run(again, tmp_path)
    assert len(again.started) == len(again.finished) == 6
    assert not set(again.finished) & set(recipe.finished)
    unbroken = run(FakeRecipe(accuracy, accuracy), tmp_path / "other")
    assert result == unbroken

    once_more = FakeRecipe()
    assert run(once_more, tmp_path) == result
    assert once_more.started == []


def test_a_larger_grid_uses_the_runs_of_a_smaller_one(tmp_path):
    run(FakeRecipe(), tmp_path)
    recipe = FakeRecipe()
    run(recipe, tmp_path, {"fused_weight": (0.1, 0.5, 0.9), "mask_ratio": (0.0, 0.3)})
    assert len(recipe.finished) == 4


def test_the_result_is_chosen_by_validation_and_not_by_test(tmp_path):
    """The point that is best on test rows is the worst on validation rows."""
    result = run(FakeRecipe(accuracy, lambda tweaks, seed: 1 - accuracy(tweaks, seed)), tmp_path)
    best = result.best("accuracy a+b")
    assert best.tweaks["fused_weight"] == 0.5
    assert best.test("accuracy a+b")[0] < min(point.test("accuracy a+b")[0] for point in result.points[:2])


def test_the_choice_is_the_same_whatever_the_test_numbers_are(tmp_path):
    chosen = []
    for i, test in enumerate((lambda *_: 0.5, accuracy, lambda tweaks, _: float(tweaks["mask_ratio"] == 0.3))):
        result = run(FakeRecipe(accuracy, test), tmp_path / str(i))
        chosen.append(result.best("accuracy a+b").tweaks)
    assert chosen[0] == chosen[1] == chosen[2]


def test_a_test_number_cannot_choose(tmp_path):
    result = run(FakeRecipe(), tmp_path, read=lambda report: {"accuracy on test rows": report.rows[0].value})
    assert result.points[0].test("accuracy on test rows") == (0.5, 0.0)
    with pytest.raises(
        ValueError, match="validation number 'accuracy on test rows' is not known.*'accuracy a+b'".replace("+", r"\+")
    ):
        result.best("accuracy on test rows")


def test_losses_are_chosen_lowest(tmp_path):
    result = run(FakeRecipe(), tmp_path, seeds=(0,))
    assert result.points[0].validation("loss") == (1.0, None)
    assert result.best("loss") == result.points[0]  # the first of equals


def test_validation_numbers_are_those_of_the_best_epoch(tmp_path):
    result = run(FakeRecipe(lambda *_: 0.7), tmp_path)
    folder = tmp_path / result.measured[0].runs[0]
    assert validation_metrics(folder) == {"loss": 1.0, "temperature": 0.07, "accuracy a+b": 0.7}
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    records[-1]["total"] = 3.0  # now the first epoch, with loss 2, is the best
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert validation_metrics(folder) == {"loss": 2.0, "temperature": 0.07, "accuracy a+b": 0.0}


def test_validation_numbers_of_no_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no log.jsonl: not the folder of a run"):
        validation_metrics(tmp_path)
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(ValueError, match="no epoch of this run is finished"):
        validation_metrics(tmp_path)


def test_the_result_file_holds_every_number(tmp_path):
    run(FakeRecipe(accuracy, accuracy), tmp_path)
    content = json.loads((tmp_path / "sweeps" / "sweep" / "result.json").read_text())
    assert content["points"][0]["validation"]["accuracy a+b"]["mean"] == pytest.approx(0.15)
    assert content["points"][0]["seeds"] == [0, 1]
    assert len(content["measured"]) == 8


def test_an_unfinished_sweep_does_not_choose(tmp_path):
    result = run(FakeRecipe(), tmp_path)
    with pytest.raises(ValueError, match="sweep sweep: 6 of 8 points and seeds are missing"):
        replace(result, measured=result.measured[:2]).best("loss")


def test_an_unused_setting_is_refused_before_training(tmp_path):
    recipe = FakeRecipe(knows=("mask_ratio",))
    with pytest.raises(
        ValueError, match=r"\(fused_weight=0.1 mask_ratio=0, seed 0\) and \(fused_weight=0.5 .* are one run"
    ):
        run(recipe, tmp_path)
    assert recipe.started == []


def test_a_mistake_in_the_last_point_is_found_before_training(tmp_path):
    recipe = FakeRecipe()

    def factory(tweaks, seed):
        if tweaks["fused_weight"] == 0.5 and seed == 1:
            raise ValueError("not this one")
        return recipe(tweaks, seed)

    with pytest.raises(ValueError, match="not this one"):
        run(factory, tmp_path)
    with pytest.raises(ValueError, match="setting 'dims' is not known"):
        run(recipe, tmp_path, {"dims": (1, 2)})
    with pytest.raises(ValueError, match="seeds must be at least one, each once"):
        run(recipe, tmp_path, seeds=(0, 0))
    assert recipe.started == []


def test_a_run_that_fails_is_named(tmp_path):
    recipe = FakeRecipe()
    recipe.stop_in_run(2, ValueError("the loss is nan at step 1"))
    with pytest.raises(ValueError, match=r"run fake/.*\(fused_weight=0.1 mask_ratio=0.3, seed 0\): the loss is nan"):
        run(recipe, tmp_path)


def test_numbers_of_several_runs_of_one_point_stand_together(tmp_path):
    one, two = FakeRecipe(lambda *_: 0.2, recalls=lambda *_: (0.1, 0.2)), FakeRecipe(lambda *_: 0.4)

    def factory(tweaks, seed):
        (second,) = two(tweaks, seed)
        return [*one(tweaks, seed), second.__class__(**{**vars(second), "name": second.name + "-two"})]

    result = run(factory, tmp_path, {"dim": (4,)}, (0,))
    assert result.points[0].validation("accuracy a+b")[0] == pytest.approx(0.3)
    assert result.points[0].validation("recall@10 a -> c")[0] == pytest.approx(0.1)
    assert len(result.measured[0].runs) == 2


def test_means_leave_out_means_of_embeddings_and_fused_targets():
    numbers = {
        "recall@10 a -> b": 0.1, "recall@10 b -> a": 0.3, "recall@10 a+b -> c": 0.6, "recall@10 mean(a, b) -> c": 0.9,
        "recall@10 c -> a+b": 0.9, "recall@1 a -> b": 0.9, "accuracy a": 0.9, "accuracy mean(a, b)": 0.1, "loss": 2.0,
    }  # fmt: skip
    found = with_means(numbers)
    assert {name: found[name] for name in found if name not in numbers} == {
        "mean recall@10 1 -> 1": pytest.approx(0.2), "mean recall@10 2 -> 1": 0.6, "mean accuracy 1 -> 1": 0.9,
    }  # fmt: skip
    assert with_means({**numbers, "mean accuracy 1 -> 1": 0.4})["mean accuracy 1 -> 1"] == 0.4  # what was logged stays


def test_progress_says_what_is_left(tmp_path, capsys):
    sweep(FakeRecipe(), {"dim": (4, 8)}, "sweep", Request(seeds=(0,), runs=tmp_path))
    error = " ".join(capsys.readouterr().err.split())
    assert "2 of 2 runs left; now dim=4 seed 0" in error
    assert "1 of 2 runs left, about" in error and "now dim=8 seed 0" in error
