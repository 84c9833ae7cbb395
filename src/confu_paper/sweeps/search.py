"""A search over settings with Optuna: a validation number is the objective, and a killed search goes on."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from confu.checks import check_known
from confu.files import write_json
from confu.methods import DOMAINS, Tweaks, Value, check_number, check_tweaks
from confu.nn.encoders.registry import import_extra
from confu.training.state import claim_folder
from confu_paper.experiments.benchmark import Request
from confu_paper.sweeps.grid import (
    Factory,
    Measured,
    Point,
    describe,
    measure_point,
    named_settings,
    progress_line,
    setting_values,
)
from confu_paper.sweeps.numbers import lower_is_better

STUDY = "study.db"
FAILURES_IN_A_ROW = 3
Space = Mapping[str, Any]
"""Setting -> one of Optuna's distributions: float, integer or categorical."""


def load_optuna() -> Any:
    """Optuna, or an ImportError that says how to install it."""
    return import_extra("optuna", "a search", "search")


def parse_space(settings: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=LOW:HIGH`, `NAME=log:LOW:HIGH`, `NAME=int:LOW:HIGH` or `NAME=VALUE|VALUE|...` of a search.

    A setting that takes whole numbers only draws whole numbers with or without `int:`.

    >>> space = parse_space(["lr=log:1e-4:1e-2", "fusion_depth=1:3", "fusion_dim=128|256"])
    >>> {name: space_text(values) for name, values in space.items()}
    {'lr': 'log:0.0001:0.01', 'fusion_depth': 'int:1:3', 'fusion_dim': '128|256'}

    Args:
        settings: one text for each name of `DOMAINS` that is searched.

    Returns:
        Optuna's distributions by name, in the order given.

    Raises:
        ValueError: for an unknown name (with the closest one), one given twice, an empty range, a logarithm from 0, or
            a value that is not a number which the setting takes.
        ImportError: if Optuna is not installed.
    """
    distributions = load_optuna().distributions
    space: dict[str, Any] = {}
    for name, text in named_settings(settings, "lr=log:1e-4:1e-2"):
        if ":" in text:
            low, high, log = _range(name, text)
            make = distributions.IntDistribution if DOMAINS[name].whole else distributions.FloatDistribution
            space[name] = make(low, high, log=log)
        elif "," in text:
            raise ValueError(f"{name}={text}: a search lists its choices with |, e.g. {name}={text.replace(',', '|')}")
        else:
            space[name] = distributions.CategoricalDistribution(setting_values(name, text, "|"))
    return space


def space_text(values: Any) -> str:
    """A distribution as `parse_space` reads it."""
    if hasattr(values, "choices"):
        return "|".join(map(str, values.choices))
    kind = ("int:" if isinstance(values.low, int) else "") + ("log:" if values.log else "")
    return f"{kind}{values.low:g}:{values.high:g}"


def _range(name: str, text: str) -> tuple[float, float, bool]:
    """Low, high, and whether it is drawn evenly in the logarithm."""
    *kinds, low_text, high_text = [part.strip() for part in text.split(":")]
    for kind in kinds:
        check_known(f"kind of range in {name}={text}:", kind, ["log", "int"])
    if "int" in kinds and not DOMAINS[name].whole:
        raise ValueError(f"{name}={text}: {name} need not be whole; leave out 'int:', or list values with |")
    low, high = check_number(name, low_text), check_number(name, high_text)
    if not low < high:
        raise ValueError(f"{name}={text}: a range goes from low to high; got {low:g} and {high:g}")
    if "log" in kinds and low <= 0:
        raise ValueError(f"{name}={text}: a logarithm cannot start at {low:g}; start above 0, or leave out 'log:'")
    return low, high, "log" in kinds


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Attributes:
        number: in the order in which they were drawn, from 0.
        tweaks: its settings.
        value: of the objective, on validation rows.
        measured: by seed, with the test numbers that are shown of the chosen trial only.
    """

    number: int
    tweaks: dict[str, Value]
    value: float
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class SearchResult:
    """The finished trials of a search.

    Attributes:
        name: of the search.
        space: what it draws from.
        objective: name of the validation number.
        seed: of the draws.
        run_seeds: of each trial's runs.
        trials: the finished ones, by number.
        failed: number, as text -> error of a trial that failed.
    """

    name: str
    space: Space
    objective: str
    seed: int
    run_seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    failed: Mapping[str, str]

    def ranked(self) -> list[Trial]:
        """The trials by their value of the objective, best first; test numbers are not looked at.

        Raises:
            ValueError: if no trial is finished.
        """
        if not self.trials:
            raise ValueError(f"search {self.name} has no finished trial; run it first")
        sign = 1 if lower_is_better(self.objective) else -1
        return sorted(self.trials, key=lambda trial: sign * trial.value)

    @property
    def best(self) -> Trial:
        """The first of the ranked trials."""
        return self.ranked()[0]

    def to_dict(self) -> dict[str, Any]:
        """Every trial with its validation number, and all numbers of the best one, for JSON."""
        return {
            "search": self.name,
            "space": {name: space_text(values) for name, values in self.space.items()},
            "objective": self.objective,
            "seed": self.seed,
            "run_seeds": list(self.run_seeds),
            "best": asdict(self.best) if self.trials else None,
            "trials": [{"number": one.number, "tweaks": one.tweaks, "value": one.value} for one in self.trials],
            "failed": dict(self.failed),
        }


def search(
    factory: Factory,
    space: Space,
    objective: str,
    trials: int,
    name: str,
    request: Request,
    fixed: Tweaks | None = None,
    seed: int = 0,
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
        name: of the study's folder.
        request: the seeds of each trial's runs, over which the objective is the mean; folder of the runs, progress.
        fixed: settings that are changed for all trials.
        seed: of the draws.

    Raises:
        ValueError: for an unknown setting or number, if the folder holds another search, or if three trials in a row
            fail.
        ImportError: if Optuna is not installed.
    """
    optuna = load_optuna()
    fixed, run_seeds = dict(fixed or {}), tuple(request.seeds)
    _check(space, fixed, trials, run_seeds)
    folder = request.runs / "searches" / name
    _claim(folder, factory, space, fixed, {"seed": seed, "run_seeds": list(run_seeds)})
    measured: dict[int, tuple[Measured, ...]] = {}

    def settings(parameters: Mapping[str, Any]) -> dict[str, Value]:
        return {**fixed, **{key: _rounded(parameters[key], values) for key, values in space.items()}}

    def measure(number: int, parameters: Mapping[str, Any]) -> tuple[Measured, ...]:
        if number not in measured:
            tweaks = settings(parameters)
            measured[number] = tuple(measure_point(factory(tweaks, one), tweaks, one, request) for one in run_seeds)
        return measured[number]

    with _quiet(optuna):
        # The study has the objective's name: another objective is another study, and shares the runs.
        direction = "minimize" if lower_is_better(objective) else "maximize"
        storage = f"sqlite:///{(folder / STUDY).resolve()}"
        study = optuna.create_study(storage=storage, study_name=objective, direction=direction, load_if_exists=True)
        states = optuna.trial.TrialState

        def failed() -> dict[str, str]:
            return dict(study.user_attrs.get("failed", {}))

        def save() -> SearchResult:
            complete = study.get_trials(deepcopy=False, states=[states.COMPLETE])
            finished = [
                Trial(one.number, settings(one.params), one.value, measure(one.number, one.params)) for one in complete
            ]
            result = SearchResult(name, dict(space), objective, seed, run_seeds, tuple(finished), failed())
            write_json(folder / "result.json", result.to_dict())
            return result

        started, done_here, failures = time.monotonic(), 0, 0
        while (left := trials - len(study.get_trials(deepcopy=False, states=[states.COMPLETE]))) > 0:
            number, parameters = _next_trial(optuna, study, space, seed)
            if request.progress:
                seconds = (time.monotonic() - started) / done_here * left if done_here else None
                line = progress_line(trials, left, seconds, "trials")
                Console(stderr=True).print(f"{line}; now {describe(settings(parameters))}", highlight=False)
            try:
                of_trial = measure(number, parameters)
            except ValueError as error:
                failures += 1
                study.set_user_attr("failed", {**failed(), str(number): str(error)})
                study.tell(number, state=states.FAIL)
                Console(stderr=True).print(f"trial {number} failed: {error}", highlight=False, markup=False)
                if failures == FAILURES_IN_A_ROW:
                    raise ValueError(f"{failures} trials in a row failed, the last: {error}") from error
                continue
            study.tell(number, Point(settings(parameters), of_trial).validation(objective)[0])
            failures, done_here = 0, done_here + 1
            save()
        return save()


def _claim(folder: Path, factory: Factory, space: Space, fixed: Tweaks, seeds: Mapping[str, Any]) -> None:
    """Make the folder, or make sure that the search in it is this one, of the same recipe, size, method and data."""
    corner = {
        **fixed,
        **{key: values.choices[0] if hasattr(values, "choices") else values.low for key, values in space.items()},
    }
    runs = {
        f"run {i} of the lowest settings": {"name": run.name, **run.description, "train": run.train.model_dump()}
        for i, run in enumerate(factory(corner, seeds["run_seeds"][0]))
    }
    described = {key: space_text(values) for key, values in space.items()}
    claim_folder(folder, {"space": described, "fixed": dict(fixed), **seeds, **runs})


def _next_trial(optuna: Any, study: Any, space: Space, seed: int) -> tuple[int, dict[str, Any]]:
    """The trial that was running when the search was killed, or a new one."""
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=[states.RUNNING]):
        if trial.params.keys() == space.keys():
            return trial.number, trial.params
        # Killed while its settings were drawn: nothing was trained for it yet.
        study.tell(trial.number, state=states.FAIL)
    # A sampler for each trial: one that began anew with the process would draw the same settings again.
    number = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=(1_000_003 * seed + number) % 2**32)
    trial = study.ask(dict(space))
    return trial.number, trial.params


def _rounded(value: Value, values: Any) -> Value:
    """Four digits of a drawn fraction: more say nothing, and would stand in the name of the run's folder."""
    if hasattr(values, "choices") or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.4g}"), values.low), values.high)


def _check(space: Space, fixed: Tweaks, trials: int, run_seeds: Sequence[int]) -> None:
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
        for value in getattr(values, "choices", None) or (values.low, values.high):
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
