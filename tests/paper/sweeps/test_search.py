"""A search goes on where it was killed, draws what an unbroken one draws, and never reads a test number to choose."""

import json
import math
import sys

import pytest

from confu_paper.experiments.benchmark import Request
from confu_paper.sweeps.search import load_optuna, parse_space, search
from confu_paper.sweeps.tables import search_table
from paper.sweeps.fake_recipe import FakeRecipe

optuna = pytest.importorskip("optuna")
SPACE = parse_space(["lr=log:1e-4:1e-1", "fusion_depth=int:1:3", "fusion_dim=128|256"])
OBJECTIVE = "accuracy a+b"


def peak(tweaks, _seed):
    """Best at a learning rate of 1e-2."""
    return 1 / (1 + abs(math.log10(tweaks["lr"]) + 2))


def run(recipe, runs, trials=4, space=SPACE, objective=OBJECTIVE, run_seeds=(0,), **more):
    request = Request(seeds=run_seeds, runs=runs, progress=False)
    return search(recipe, space, objective, trials, "search", request, **more)


def trials_of(runs, name="search", objective=OBJECTIVE):
    study = optuna.load_study(study_name=objective, storage=f"sqlite:///{runs / 'searches' / name / 'study.db'}")
    return [(trial.number, trial.state.name) for trial in study.get_trials()]


def test_a_search_finds_what_is_good_on_validation_rows(tmp_path):
    result = run(FakeRecipe(peak), tmp_path, trials=10)
    assert len(result.trials) == 10
    assert result.best.value == max(trial.value for trial in result.trials) > 0.5
    for trial in result.trials:
        assert 1e-4 <= trial.tweaks["lr"] <= 1e-1 and trial.tweaks["lr"] == float(f"{trial.tweaks['lr']:.4g}")
        assert trial.tweaks["fusion_depth"] in (1, 2, 3) and trial.tweaks["fusion_dim"] in (128, 256)
    assert len({trial.tweaks["lr"] for trial in result.trials}) == 10


def test_the_trial_is_chosen_by_validation_and_not_by_test(tmp_path):
    result = run(FakeRecipe(peak, lambda tweaks, seed: 1 - peak(tweaks, seed)), tmp_path, trials=4)
    worst_on_test = min(result.trials, key=lambda trial: trial.measured[0].test[OBJECTIVE])
    assert result.best == worst_on_test
    other = run(FakeRecipe(peak, peak), tmp_path / "other", trials=4)
    assert [trial.tweaks for trial in other.trials] == [trial.tweaks for trial in result.trials]
    assert other.best.tweaks == result.best.tweaks


@pytest.mark.parametrize("at", [1, 3])
def test_a_killed_search_resumes_its_trial(at, tmp_path):
    unbroken = run(FakeRecipe(peak), tmp_path / "unbroken", trials=4)
    recipe = FakeRecipe(peak)
    recipe.stop_in_run(at, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path, trials=4)
    assert trials_of(tmp_path)[-1] == (at - 1, "RUNNING")
    again = FakeRecipe(peak)
    result = run(again, tmp_path, trials=4)
    assert again.started[0] == recipe.started[-1]
    assert len(recipe.finished) + len(again.finished) == 4
    assert trials_of(tmp_path) == [(number, "COMPLETE") for number in range(4)]
    assert result.trials == unbroken.trials


def test_a_trial_killed_before_its_record_counts_once(tmp_path, monkeypatch):
    recipe = FakeRecipe(peak)

    def killed(*_args, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.study.Study, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path, trials=3)
    assert len(recipe.finished) == 1
    again = FakeRecipe(peak)
    result = run(again, tmp_path, trials=3)
    assert len(again.started) == 2
    assert [trial.number for trial in result.trials] == [0, 1, 2]


def test_killed_while_settings_are_drawn_the_trial_is_replaced(tmp_path):
    run(FakeRecipe(peak), tmp_path, trials=1)
    study = optuna.load_study(
        study_name=OBJECTIVE, storage=f"sqlite:///{tmp_path / 'searches' / 'search' / 'study.db'}"
    )
    study.ask({"lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)})
    result = run(FakeRecipe(peak), tmp_path, trials=2)
    assert trials_of(tmp_path) == [(0, "COMPLETE"), (1, "FAIL"), (2, "COMPLETE")]
    assert len(result.trials) == 2


def test_more_trials_are_added_to_a_finished_search(tmp_path):
    first = run(FakeRecipe(peak), tmp_path, trials=2)
    recipe = FakeRecipe(peak)
    assert run(recipe, tmp_path, trials=2) == first
    assert recipe.started == []
    more = run(recipe, tmp_path, trials=4)
    assert more.trials[:2] == first.trials and len(recipe.finished) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"space": parse_space(["lr=log:1e-4:1"])}, "space.lr is 'log:0.0001:0.1' there and 'log:0.0001:1' here"),
        ({"fixed": {"dim": 8}}, "fixed.dim is None there and 8 here"),
        ({"run_seeds": (0, 1)}, r"run_seeds is \[0\] there and \[0, 1\] here"),
    ],
)
def test_another_search_does_not_go_on_in_the_same_folder(change, message, tmp_path):
    run(FakeRecipe(peak), tmp_path, trials=1)
    recipe = FakeRecipe(peak)
    with pytest.raises(ValueError, match=message):
        run(recipe, tmp_path, **change)
    assert recipe.started == []


def test_another_size_does_not_resume_in_the_folder(tmp_path):
    run(FakeRecipe(peak), tmp_path, trials=1)

    def larger(tweaks, seed):
        (run,) = FakeRecipe(peak)(tweaks, seed)
        return [run.__class__(**{**vars(run), "description": {**run.description, "size": "large"}})]

    with pytest.raises(ValueError, match=r"run 0 of the lowest settings\.size is None there and 'large' here"):
        run(larger, tmp_path)


def test_another_objective_shares_the_runs(tmp_path):
    run(FakeRecipe(peak), tmp_path, trials=1)
    recipe = FakeRecipe(peak)
    result = run(recipe, tmp_path, trials=1, objective="loss")
    assert recipe.started == []  # the first draw does not depend on the objective
    assert result.best.value == 1.0
    with pytest.raises(ValueError, match=r"validation number 'acuracy' is not known.*Known: 'loss', 'temperature'"):
        run(recipe, tmp_path, objective="acuracy")


def test_losses_are_minimised(tmp_path):
    result = run(FakeRecipe(), tmp_path, trials=3, objective="loss")
    study = optuna.load_study(study_name="loss", storage=f"sqlite:///{tmp_path / 'searches' / 'search' / 'study.db'}")
    assert study.direction.name == "MINIMIZE"
    assert result.best == result.trials[0]


def test_the_objective_is_the_mean_over_seeds(tmp_path):
    result = run(FakeRecipe(lambda _, seed: 0.2 + 0.4 * seed), tmp_path, trials=1, run_seeds=(0, 1))
    assert result.best.value == pytest.approx(0.4)
    assert [one.seed for one in result.best.measured] == [0, 1]


def test_fixed_settings_are_changed_for_all_trials(tmp_path):
    result = run(FakeRecipe(peak), tmp_path, trials=2, fixed={"dim": 8})
    assert all(trial.tweaks["dim"] == 8 for trial in result.trials)


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tmp_path, capsys):
    recipe = FakeRecipe(peak)
    recipe.stop_in_run(2, ValueError("the loss is nan at step 1"))
    result = run(recipe, tmp_path, trials=3)
    assert [trial.number for trial in result.trials] == [0, 2, 3]
    assert list(result.failed) == ["1"] and "the loss is nan at step 1" in result.failed["1"]
    assert "trial 1 failed" in capsys.readouterr().err
    assert "1 more trials failed: 1" in search_table(result).notes


def test_three_failures_in_a_row_end_the_search(tmp_path):
    recipe = FakeRecipe(peak)
    for number in (1, 2, 3):
        recipe.stop_in_run(number, ValueError("there is no data at data/"))
    with pytest.raises(ValueError, match=r"3 trials in a row failed, the last: .*there is no data at data/"):
        run(recipe, tmp_path, trials=5)
    assert len(run(FakeRecipe(peak), tmp_path, trials=2).trials) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {}}, "the space has no settings"),
        ({"trials": 0}, "trials must be at least 1; got 0"),
        ({"fixed": {"lr": 0.1}}, "lr cannot be both fixed and searched"),
        ({"fixed": {"dmi": 8}}, "setting 'dmi' is not known; did you mean 'dim'"),
        ({"run_seeds": ()}, "run_seeds must be at least one"),
    ],
)
def test_bad_arguments_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(FakeRecipe(), tmp_path, **change)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'needs optuna, .*pip install "contrastive-fusion\[search\]"'):
        load_optuna()


def test_test_numbers_are_of_the_best_trial_only(tmp_path):
    result = run(FakeRecipe(peak), tmp_path, trials=4)
    table = search_table(result, top=3)
    shown = [label for label, cells in table.rows.items() if f"test {OBJECTIVE}" in cells]
    assert len(table.rows) == 3 and shown == [next(iter(table.rows))]
    assert shown[0].startswith(f"trial {result.best.number}: ")
    content = json.loads((tmp_path / "searches" / "search" / "result.json").read_text())
    assert content == json.loads(json.dumps(result.to_dict()))
    assert "measured" in content["best"] and all("measured" not in trial for trial in content["trials"])
