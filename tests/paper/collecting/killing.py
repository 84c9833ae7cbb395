"""A run of all sources in a process of its own, to be killed."""

from pathlib import Path
from typing import Any

from confu_paper.collecting.client import Client
from confu_paper.collecting.clips import cut_clips
from confu_paper.collecting.inaturalist import collect_photos
from confu_paper.collecting.taxa import Taxon, resolve_taxa, resolved_taxa
from confu_paper.collecting.wikipedia import collect_sections
from confu_paper.collecting.xeno_canto import collect_recordings
from paper.collecting.faulty_server import KEY

TAXA = [Taxon("Ardea alba"), Taxon("Corvus corax")]


def run(out: Path, addresses: dict[str, str], quiet: bool = True) -> Client:
    """Ask for everything, as fast as the server gives it."""
    client = Client("ada@example.org", rates={"127.0.0.1": 1e6}, timeout=5.0)
    shown: dict[str, Any] = {"progress": not quiet}
    resolve_taxa(TAXA, out, client, addresses["inaturalist"], **shown)
    taxa = resolved_taxa(TAXA, out)
    collect_photos(taxa, out, client, 4, api=addresses["inaturalist"], **shown)
    collect_recordings(taxa, out, client, KEY, 4, api=addresses["xeno_canto"], **shown)
    collect_sections(taxa, out, client, addresses["wikipedia"], **shown)
    cut_clips(out, workers=0, **shown)
    return client
