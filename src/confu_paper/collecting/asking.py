"""Asking a language model many questions: in batches, each answer on disk at once, bad answers asked for again."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from confu_paper.collecting.answers import cleaned, what_is_wrong
from confu_paper.collecting.language import LanguageModel
from confu_paper.collecting.seeds import seed_of
from confu_paper.collecting.steps import StepLog


@dataclass(frozen=True)
class Question:
    """One prompt.

    Attributes:
        key: of its item in the step's file.
        prompt: as the model gets it.
        about: what is stored beside the answer.
    """

    key: str
    prompt: str
    about: dict[str, Any] = field(default_factory=dict)


def ask(
    questions: Sequence[Question],
    log: StepLog,
    load: Callable[[], LanguageModel],
    words: tuple[int, int],
    what: str,
    seed: int = 0,
    attempts: int = 4,
    batch_size: int = 16,
    progress: bool = True,
) -> None:
    """Answer those questions that the log has no answer to; the model is loaded only if there are any.

    An answer that is empty, cut off, too short, too long or goes in circles is drawn again from another seed, in the
    next batch; after the last attempt the item is stored with that as its outcome, and its last text as `rejected`.

    Args:
        questions: one an item.
        log: gets a record an item: what `about` holds, text, outcome, attempts and model.
        load: gives the model.
        words: the fewest and the most that an answer may have.
        what: is made, for the bar.
        seed: of the draws, with the key and the attempt.
        attempts: of each question.
        batch_size: prompts at a time.
        progress: show a bar on the terminal.
    """
    if attempts < 1 or batch_size < 1:
        raise ValueError(f"expected 1 or more attempts and prompts at a time; got {attempts} and {batch_size}")
    waiting = deque((question, 0) for question in questions if not log.done(question.key))
    if not waiting:
        return
    model = load()
    with progress_bar(what, progress) as bar:
        shown = bar.add_task(what, total=len(questions), completed=len(questions) - len(waiting))
        while waiting:
            batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
            seeds = [seed_of(seed, question.key, attempt) for question, attempt in batch]
            answers = model.answer([question.prompt for question, _ in batch], seeds)
            for (question, attempt), answer in zip(batch, answers):
                text = cleaned(answer.text)
                wrong = what_is_wrong(text, answer.ended, *words)
                if wrong is not None and attempt + 1 < attempts:
                    waiting.appendleft((question, attempt + 1))  # now: a kill loses what is not stored
                    continue
                found = {"text": text, "outcome": "kept"} if wrong is None else {"outcome": wrong, "rejected": text}
                log.add(question.key, {**question.about, **found, "attempts": attempt + 1, "model": model.name})
                bar.advance(shown)


def progress_bar(what: str, show: bool) -> Progress:
    """A bar on the terminal's standard error, hidden where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), console=console, disable=not (show and console.is_terminal), transient=True,
    )  # fmt: skip
