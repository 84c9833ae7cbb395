"""Collections of a few species, and a run of all sources in a process of its own, to be killed."""

from collections.abc import Sequence
from pathlib import Path

from confu_paper.collecting.client import Client
from confu_paper.collecting.clips import cut_clips
from confu_paper.collecting.collection import Addresses, Collection, Taxon, resolve_taxa
from confu_paper.collecting.inaturalist import collect_photos
from confu_paper.collecting.wikipedia import collect_sections
from confu_paper.collecting.xeno_canto import collect_recordings
from paper.collecting.clock import Clock
from paper.collecting.faulty_server import KEY, FaultyServer

EGRET, RAVEN = Taxon("Ardea alba", "Great Egret", "4956"), Taxon("Corvus corax", "Common Raven", "8029")


def write_taxa(file: Path, taxa: Sequence[Taxon]) -> Path:
    lines = ["scientific_name,common_name,taxon_id,xeno_canto_names,wikipedia_id"]
    for taxon in taxa:
        cells = (taxon.common_name, taxon.taxon_id, ";".join(taxon.sound_names), taxon.article)
        lines.append(",".join([taxon.scientific_name, *(cell or "" for cell in cells)]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def collection(out: Path, server: FaultyServer | None = None, taxa: Sequence[Taxon] = (EGRET, RAVEN), **settings):
    """A collection of species whose numbers are known; nothing is requested yet."""
    client = settings.pop("client", None) or Clock().client(timeout=1.0)
    addresses = Addresses() if server is None else Addresses(**server.addresses)
    settings = {"client": client, "addresses": addresses, "per_species": 4, "key": KEY, "progress": False, **settings}
    job = Collection(write_taxa(out / "taxa.csv", taxa), out, **settings)
    if all(taxon.taxon_id for taxon in taxa):
        resolve_taxa(job)
    return job


def run(out: Path, addresses: dict[str, str], client: Client | None = None) -> None:
    """Ask for everything, as fast as the server gives it."""
    client = client or Client("ada@example.org", rates={"127.0.0.1": 1e6}, timeout=5.0)
    names = [Taxon("Ardea alba"), Taxon("Corvus corax")]
    job = collection(out, None, names, client=client, addresses=Addresses(**addresses))
    resolve_taxa(job)
    collect_photos(job)
    collect_recordings(job)
    collect_sections(job)
    cut_clips(job, workers=0)
