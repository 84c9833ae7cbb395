"""What `run_all.py` runs: each script with the arguments that make all of them together take some 25 minutes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A script and how it is called.

    Attributes:
        script: its name without the ending.
        short: its arguments.
        minutes: expected on a quiet machine of two cores, with one thread.
        long: arguments for `--long`, if others.
        long_minutes: expected then.
        threads: numbers of threads it makes sense with.
    """

    script: str
    short: str = ""
    minutes: float = 1
    long: str | None = None
    long_minutes: float = 5
    threads: tuple[int, ...] = (1, 2)


STEPS = ["all exact ones: the defaults", "defaults, bfloat16", "defaults, both"]
_QUOTED = " ".join(f"'{name}'" for name in STEPS)

PARTS: dict[str, Part] = {
    "loss": Part("loss", "", 2.5),
    "loss-large": Part("loss", "--rows --many --large 16384", 3, "--rows --many --large 16384 --repeats 3", 9),
    "loss-memory": Part("loss", "--rows --many --memory-rows 4096 16384", 2, threads=(1,)),
    "methods": Part("methods", "--rows 256 1024 --repeats 5", 1.5, "", 20, threads=(1,)),
    "cached-gradients": Part("cached_gradients", "--rows 256 --parts 128 64 32 --repeats 5", 1, "", 5),
    "step": Part("step", f"--rows 256 --repeats 3 --ways {_QUOTED}", 2, "--rows 256 --repeats 3", 7),
    "many-modalities": Part("many_modalities", "--views --modalities 2 3 4 5 6 --repeats 3", 1.5, "", 20, threads=(1,)),
    "search": Part("search", "--repeats 3", 2.5),
    "supply": Part("supply", "", 0.5),
}


def checks() -> dict[str, Callable[[], object]]:
    """What each script checks before it measures: that all its ways give the same."""
    import av_mnist_small
    import cached_gradients
    import loss_ways
    import many_modalities
    import methods
    import profile_step
    import step
    import supply

    import search

    modules = (loss_ways, methods, cached_gradients, step, many_modalities, search, supply, av_mnist_small,
               profile_step)  # fmt: skip
    return {module.__name__: module.check_equal for module in modules}
