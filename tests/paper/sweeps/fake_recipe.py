"""A recipe that trains three weights for two epochs, and whose numbers are functions of the settings and the seed."""

from collections.abc import Callable

from confu.data import Splits
from confu.evaluation import ReportRow
from confu.training import TrainSettings
from confu_paper.experiments.run import Run
from training.parts import Scripted, rows

PAIRS = {"1 -> 1": ("a", "c"), "2 -> 1": ("a+b", "c")}


class FakeRecipe:
    """Makes runs, and counts them.

    Args:
        validation: (tweaks, seed) -> accuracy on validation rows.
        test: the same on test rows.
        recalls: (tweaks, seed) -> recall@10 of 1 -> 1 and of 2 -> 1, on validation and test rows alike.
        knows: settings that it uses; the others change neither the run's name nor anything else.
    """

    def __init__(
        self,
        validation: Callable = lambda tweaks, seed: 0.5,
        test: Callable = lambda tweaks, seed: 0.5,
        recalls: Callable | None = None,
        knows: tuple[str, ...] = ("fused_weight", "mask_ratio", "dim", "lr", "fusion_depth", "fusion_dim"),
    ):
        self.validation, self.test, self.recalls, self.knows = validation, test, recalls, knows
        self.started: list[str] = []
        self.finished: list[str] = []
        self.stop: dict[int, BaseException] = {}

    def __call__(self, tweaks, seed) -> list[Run]:
        known = {name: value for name, value in tweaks.items() if name in self.knows}
        name = "fake/" + "-".join([*(f"{name}{value}" for name, value in known.items()), f"s{seed}"])

        def recalls() -> dict:
            return {} if self.recalls is None else dict(zip(PAIRS.values(), self.recalls(tweaks, seed)))

        def objective() -> Scripted:
            self.started.append(name)
            return Scripted([2.0, 1.0])

        def splits() -> Splits:
            train = rows(8)
            take = train.batch

            def batch(indices):
                if (error := self.stop.pop(len(self.started), None)) is not None:
                    raise error
                return take(indices)

            train.batch = batch
            return Splits(train, rows(4), rows(4))

        def monitor(objective, _splits) -> dict[str, float]:
            epoch = sum(1 for training, _ in objective.batches if not training)
            right = self.validation(tweaks, seed)
            numbers = {"accuracy a+b": right if epoch == 2 else 0.0}  # the last epoch is the best one
            return numbers | {f"recall@10 {query} -> {target}": value for (query, target), value in recalls().items()}

        def measure(_folder, _splits) -> list[ReportRow]:
            self.finished.append(name)
            accuracy = ReportRow("accuracy", "a+b", "label", self.test(tweaks, seed), 4, "fake", seed)
            found = [ReportRow("recall@10", *pair, value, 4, "fake", seed) for pair, value in recalls().items()]
            return [accuracy, *found]

        train = TrainSettings(epochs=2, batch_size=4, lr=0.01, seed=seed, log_every=1)
        return [Run(name, {"recipe": "fake", "tweaks": known}, train, splits, objective, measure, monitor)]

    def stop_in_run(self, number: int, error: BaseException) -> None:
        """In the middle of training of the run that is started as the `number`-th, from 1."""
        self.stop[number] = error
