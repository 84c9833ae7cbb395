"""Bird-MML's pipeline: from a list of species to photos, sounds and captions with their licences, step by step."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from confu.checks import check_known
from confu_paper.collecting.captions import caption_photos, merge_captions, summarise_sections
from confu_paper.collecting.clips import cut_clips
from confu_paper.collecting.collection import STEPS, Collection, resolve_taxa
from confu_paper.collecting.inaturalist import collect_photos
from confu_paper.collecting.manifest import CARD, MANIFEST, make_manifest
from confu_paper.collecting.wikipedia import collect_sections
from confu_paper.collecting.xeno_canto import api_key, collect_recordings

RUN: dict[str, Callable[[Collection], object]] = {
    "taxa": resolve_taxa,
    "photos": collect_photos,
    "recordings": collect_recordings,
    "clips": cut_clips,
    "sections": collect_sections,
    "image_captions": caption_photos,
    "summaries": summarise_sections,
    "captions": merge_captions,
    "manifest": make_manifest,
}
_NETWORK_STEPS = ("taxa", "photos", "recordings", "sections")
_MAX_REASONS = 4  # that a row of the table names


def collect_bird_mml(collection: Collection, steps: Sequence[str] | None = None) -> Path:
    """Build a data set of photos, sounds and captions of species, as the paper built Bird-MML.

    Each step keeps what it has finished in a log of its own; the same call goes on after a kill, and repeats no
    finished request and no finished prompt. Run as many steps at a time as you like, on different machines too: the
    sources need a network, the captions a GPU.

    Args:
        collection: what, where, and with what.
        steps: some of `STEPS`; all by default. They run in their own order.

    Returns:
        where the manifest is, or will be when its step has run.

    Raises:
        ValueError: an unknown step, a step whose inputs are not there, no key or contact where one is needed, settings
            that differ from those of an earlier run.
        OSError: a source does not answer; run the same again later.

    Reference: section 4 and appendix D.1.
    """
    chosen = chosen_steps(steps)
    check_steps(collection, chosen)
    console = Console(stderr=True, quiet=not collection.progress)
    for step in chosen:
        console.print(f"{step}: {STEPS[step]}", highlight=False, markup=False, soft_wrap=True)
        RUN[step](collection)
    return collection.out / MANIFEST


def chosen_steps(steps: Sequence[str] | None) -> list[str]:
    """These steps in the order in which they run; all for None.

    >>> chosen_steps(["manifest", "captions"])
    ['captions', 'manifest']
    """
    for step in steps or ():
        check_known("step", step, STEPS)
    return [step for step in STEPS if steps is None or step in steps]


def check_steps(collection: Collection, steps: Sequence[str]) -> None:
    """Refuse what some of these steps would only find out later.

    Raises:
        ValueError: no list of species; no key or no contact where one is needed.
    """
    network = [step for step in steps if step in _NETWORK_STEPS]
    # What is finished needs no key, and asks for it if it does.
    if "recordings" in network and not (collection.out / "recordings.jsonl").exists():
        api_key(collection)
    if network and not collection.contact and collection.client is None:
        raise ValueError(
            f"contact: the steps {', '.join(network)} tell the sources who asks; give an e-mail address or a web page "
            "of yours"
        )
    assert collection.listed  # read now: a mistake in the list is reported before anything is requested


def done_table(out: Path | str) -> Table:
    """The steps, what each makes, and how many of its items have ended how."""
    out = Path(out)
    outcomes = Collection(out, out).outcomes
    table = Table("step", "makes", "items kept", "left out", title=str(out), title_justify="left")
    for step, what in STEPS.items():
        counts = dict(outcomes.get(step, {}))
        kept = f"{counts.pop('kept', 0):,}" if step in outcomes else "-"
        if step == "manifest":
            kept = "written" if (out / MANIFEST).is_file() and (out / CARD).is_file() else "-"
        reasons = [f"{count:,} {outcome}" for outcome, count in counts.items()]
        more = [f"more in {step}.jsonl"] if len(reasons) > _MAX_REASONS else []
        table.add_row(step, what, kept, escape(", ".join(reasons[:_MAX_REASONS] + more)))
    return table
