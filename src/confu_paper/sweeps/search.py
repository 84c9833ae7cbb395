"""A search over settings with Optuna: a validation number is the objective, and a killed search goes on."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from confu.files import write_json
from confu.methods import Tweaks, Value, check_tweaks
from confu.training.state import claim_folder
from confu_paper.sweeps.grid import Factory, measure_point, progress_line
from confu_paper.sweeps.grid_result import Measured, Point
from confu_paper.sweeps.numbers import Read, lower_is_better, report_numbers
from confu_paper.sweeps.search_result import SearchResult, Trial
from confu_paper.sweeps.space import Choices, Range, describe

STUDY = "study.db"
FAILURES_IN_A_ROW = 3


def search(
    factory: Factory,
    space: Mapping[str, Range | Choices],
    objective: str,
    trials: int,
    runs: Path,
    seed: int = 0,
    run_seeds: Sequence[int] = (0,),
    fixed: Tweaks | None = None,
    read: Read = report_numbers,
    name: str = "search",
    progress: bool = True,
) -> SearchResult:
    """Try settings that Optuna's TPE sampler draws, until so many trials are finished.

    The study is in `RUNS/searches/NAME/study.db`. Called again, also with more trials, it goes on: a trial that was
    running is finished first, with the settings it was drawn with. What is drawn depends on the seed, the trial's
    number and the trials before it alone, so a killed search draws what an unbroken one does. One process at a time.

    A trial that fails, e.g. whose loss stops being finite, is recorded with its error and does not count; three in a
    row end the search.

    Args:
        factory: makes the runs of some settings and a seed.
        space: ranges and choices by name (see `parse_space`).
        objective: name of a validation number: lowest for losses and median ranks, highest for the rest.
        trials: how many to have finished in all.
        runs: folder of the runs; finished ones are read, interrupted ones go on.
        seed: of the draws.
        run_seeds: of each trial's runs; the objective is the mean over them.
        fixed: settings that are changed for all trials.
        read: the numbers of a report to keep, by name; shown for the chosen trial, and never the objective.
        name: of the study's folder.
        progress: whether to say what is left, and draw progress bars.

    Returns:
        every finished trial, and which one is best.

    Raises:
        ValueError: for an unknown setting or number, if the folder holds another search, or if three trials in a row
            fail.
        ImportError: if Optuna is not installed.
    """
    optuna = load_optuna()
    fixed = dict(fixed or {})
    _check(space, fixed, trials, run_seeds)
    folder = runs / "searches" / name
    _claim(folder, factory, space, fixed, seed, run_seeds)
    measured: dict[int, tuple[Measured, ...]] = {}

    def settings(parameters: Mapping[str, Any]) -> dict[str, Value]:
        return {**fixed, **{key: _rounded(parameters[key], values) for key, values in space.items()}}

    def measure(number: int, parameters: Mapping[str, Any], bars: bool = False) -> tuple[Measured, ...]:
        if number not in measured:
            tweaks = settings(parameters)
            measured[number] = tuple(
                measure_point(factory(tweaks, one), tweaks, one, runs, read, bars) for one in run_seeds
            )
        return measured[number]

    with _quiet(optuna):
        study = _open(optuna, folder / STUDY, objective)
        complete, failed_state = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL

        def result() -> SearchResult:
            found = study.get_trials(deepcopy=False, states=[complete])
            kept = [
                Trial(one.number, settings(one.params), one.value, measure(one.number, one.params)) for one in found
            ]
            return SearchResult(name, dict(space), objective, seed, tuple(run_seeds), tuple(kept), _failed(study))

        started, done_here, failures = time.monotonic(), 0, 0
        while (left := trials - len(study.get_trials(deepcopy=False, states=[complete]))) > 0:
            number, parameters = _next_trial(optuna, study, space, seed)
            if progress:
                seconds = (time.monotonic() - started) / done_here * left if done_here else None
                line = progress_line(trials, left, seconds, "trials")
                Console(stderr=True).print(f"{line}; now {describe(settings(parameters))}", highlight=False)
            try:
                found = measure(number, parameters, progress)
            except ValueError as error:
                failures += 1
                study.set_user_attr("failed", {**_failed(study), str(number): str(error)})
                study.tell(number, state=failed_state)
                Console(stderr=True).print(f"trial {number} failed: {error}", highlight=False, markup=False)
                if failures == FAILURES_IN_A_ROW:
                    raise ValueError(f"{failures} trials in a row failed, the last: {error}") from error
                continue
            study.tell(number, Point(settings(parameters), found).validation(objective)[0])
            failures, done_here = 0, done_here + 1
            write_json(folder / "result.json", result().to_dict())
        outcome = result()
        write_json(folder / "result.json", outcome.to_dict())
    return outcome


def load_optuna() -> Any:
    """Optuna, or what to install.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            'a search needs optuna, which is not installed: pip install "contrastive-fusion[search]"'
        ) from error
    return optuna


def _claim(
    folder: Path,
    factory: Factory,
    space: Mapping[str, Range | Choices],
    fixed: Tweaks,
    seed: int,
    run_seeds: Sequence[int],
) -> None:
    """Make the folder, or make sure that the search in it is this one, of the same recipe, size, method and data."""
    corner = {**fixed, **{key: _lowest(values) for key, values in space.items()}}
    found = {
        f"run {i} of the lowest settings": {"name": run.name, **run.description, "train": run.train.model_dump()}
        for i, run in enumerate(factory(corner, run_seeds[0]))
    }
    about = {"space": {key: str(values) for key, values in space.items()}, "fixed": dict(fixed)}
    claim_folder(folder, {**about, "seed": seed, "run_seeds": list(run_seeds), **found})


def _open(optuna: Any, file: Path, objective: str) -> Any:
    """The study, which has the objective's name: another objective is another study, and shares the runs."""
    direction = "minimize" if lower_is_better(objective) else "maximize"
    storage = f"sqlite:///{file.resolve()}"
    return optuna.create_study(storage=storage, study_name=objective, direction=direction, load_if_exists=True)


def _next_trial(optuna: Any, study: Any, space: Mapping[str, Range | Choices], seed: int) -> tuple[int, dict[str, Any]]:
    """The trial that was running when the search was killed, or a new one."""
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        if trial.params.keys() == space.keys():
            return trial.number, trial.params
        # Killed while its settings were drawn: nothing was trained for it yet.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    # A sampler for each trial: one that began anew with the process would draw the same settings again.
    number = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=(1_000_003 * seed + number) % 2**32)
    trial = study.ask({key: _distribution(optuna, values) for key, values in space.items()})
    return trial.number, trial.params


def _failed(study: Any) -> dict[str, str]:
    return dict(study.user_attrs.get("failed", {}))


def _distribution(optuna: Any, values: Range | Choices) -> Any:
    if isinstance(values, Choices):
        return optuna.distributions.CategoricalDistribution(values.values)
    if values.whole:
        return optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)


def _rounded(value: Value, values: Range | Choices) -> Value:
    """Four digits of a drawn fraction: more say nothing, and would stand in the name of the run's folder."""
    if isinstance(values, Choices) or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.4g}"), values.low), values.high)


def _lowest(values: Range | Choices) -> Value:
    return values.values[0] if isinstance(values, Choices) else int(values.low) if values.whole else float(values.low)


def _check(space: Mapping[str, Range | Choices], fixed: Tweaks, trials: int, run_seeds: Sequence[int]) -> None:
    if not space:
        raise ValueError("the space has no settings; give at least one, e.g. lr=log:1e-4:1e-2")
    if trials < 1:
        raise ValueError(f"trials must be at least 1; got {trials}")
    if not run_seeds or len(set(run_seeds)) != len(run_seeds):
        raise ValueError(f"run_seeds must be at least one, each once; got {list(run_seeds)}")
    if both := sorted(set(space) & set(fixed)):
        raise ValueError(f"{', '.join(both)} cannot be both fixed and searched; leave one out")
    check_tweaks(fixed)
    for name, values in space.items():
        ends = values.values if isinstance(values, Choices) else (values.low, values.high)
        for value in ends:
            check_tweaks({name: value})


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's own lines for each study and trial: ours say more."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
