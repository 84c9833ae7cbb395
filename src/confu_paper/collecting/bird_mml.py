"""Bird-MML's pipeline: from a list of species to photos, sounds and captions with their licences, step by step."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from confu.checks import check_known
from confu_paper.collecting.caption_steps import CAPTION_STEPS, CARD, MANIFEST, outcomes
from confu_paper.collecting.http import Client
from confu_paper.collecting.jobs import Addresses, Job, Models
from confu_paper.collecting.source_steps import SOURCE_STEPS

STEPS = {
    "taxa": "numbers and names of the species, from iNaturalist",
    "photos": "research-grade, Creative Commons photos, from iNaturalist",
    "recordings": "sound recordings, from xeno-canto (with a key of yours)",
    "clips": "10-second clips of the recordings",
    "sections": "sections of the species' articles, from Wikipedia",
    "image_captions": "what is seen on each photo, by InstructBLIP",
    "summaries": "what is known of each species, by a language model",
    "captions": "one caption a triplet, by the same language model",
    "manifest": "the table of all triplets, and its card",
}
"""The steps in order, and what each makes."""

_SHOWN = 4  # reasons that a row of the table names


def collect_bird_mml(
    taxa: Path | str,
    out: Path | str,
    per_species: int = 1000,
    key: str | None = None,
    contact: str | None = None,
    client: Client | None = None,
    steps: Sequence[str] | None = None,
    sources: Addresses | None = None,
    models: Models | None = None,
    summaries: int = 100,
    seed: int = 0,
    name: str = "Bird-MML",
    photo_size: str = "medium",
    progress: bool = True,
) -> Path:
    """Build a data set of photos, sounds and captions of species, as the paper built Bird-MML.

    Each step keeps what it has finished in a file of its own under `out`; the same call goes on after a kill, and asks
    no source and no model for anything twice. Run as many steps at a time as you like, on different machines too: the
    sources need a network, the captions a GPU.

    Args:
        taxa: the list of species; see `read_taxa`.
        out: the folder of the collection.
        per_species: photos, and so most triplets, of each species.
        key: of xeno-canto's API, for the step "recordings"; by default the environment variable XENO_CANTO_KEY.
        contact: an e-mail address or a web page of yours, which the sources are told; the steps that ask them need it.
        client: asks the sources; by default one that tells them `contact` and keeps to their rates.
        steps: some of `STEPS`; all by default. They run in their own order.
        sources: where iNaturalist, xeno-canto and Wikipedia are asked.
        models: what writes the captions.
        summaries: of each species' article.
        seed: of every draw.
        name: of the data set, for its card.
        photo_size: "small", "medium" (500 pixels at most), "large" or "original".
        progress: say which step runs, and show bars on the terminal.

    Returns:
        where the manifest is, or will be when its step has run.

    Raises:
        ValueError: an unknown step, a step whose inputs are not there, no key or contact where one is needed, settings
            that differ from those of an earlier run.
        OSError: a source does not answer; run the same again later.

    Reference: section 4 and appendix D.1.
    """
    out = Path(out)
    chosen = chosen_steps(steps)
    job = Job(
        Path(taxa), out, per_species, summaries, seed, name, key, contact, client, photo_size,
        sources or Addresses(), models or Models(), progress,
    )  # fmt: skip
    job.check(chosen)
    console = Console(stderr=True, quiet=not progress)
    for step in chosen:
        console.print(f"{step}: {STEPS[step]}", highlight=False, markup=False, soft_wrap=True)
        {**SOURCE_STEPS, **CAPTION_STEPS}[step](job)
    return out / MANIFEST


def chosen_steps(steps: Sequence[str] | None) -> list[str]:
    """These steps in the order in which they run; all if there are none.

    >>> chosen_steps(["manifest", "captions"])
    ['captions', 'manifest']

    Raises:
        ValueError: a step that there is none of.
    """
    for step in steps or ():
        check_known("step", step, STEPS)
    return [step for step in STEPS if steps is None or step in steps]


def done_table(out: Path | str) -> Table:
    """The steps, what each makes, and how many of its items have ended how."""
    out = Path(out)
    found = outcomes(out)
    table = Table("step", "makes", "items kept", "left out", title=str(out), title_justify="left")
    for step, what in STEPS.items():
        if step == "manifest":
            there = (out / MANIFEST).is_file() and (out / CARD).is_file()
            table.add_row(step, what, "written" if there else "-", "")
            continue
        counts = dict(found.get(step, {}))
        kept = counts.pop("kept", 0)
        why = [f"{count:,} {outcome}" for outcome, count in counts.items()]
        more = [f"more in {step}.jsonl"] if len(why) > _SHOWN else []
        table.add_row(step, what, f"{kept:,}" if step in found else "-", escape(", ".join(why[:_SHOWN] + more)))
    return table
