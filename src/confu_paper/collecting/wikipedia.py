"""The sections of each species' Wikipedia article, with the revision that they were read from.

Parameters are those of MediaWiki's action API: `prop=extracts` (TextExtracts) with `explaintext` gives an article as
plain text whose headings keep their equals signs, `revisions` its revision, `pageprops` whether it only disambiguates.
API:Etiquette asks for requests one after another and for `maxlag`, on which a lagging server answers with an error.
"""

import re
from functools import partial
from typing import Any

from confu.data.parallel import tracked
from confu_paper.collecting.collection import Collection, Taxon
from confu_paper.collecting.fetch import logged_answer
from confu_paper.collecting.step_log import StepLog

_RIGHTS = {"licence": "CC BY-SA 4.0", "licence_url": "https://creativecommons.org/licenses/by-sa/4.0/"}
_LIST_TITLES = (
    "references|external links|see also|further reading|notes|gallery|bibliography|sources|footnotes|citations|"
    "cited texts|explanatory notes|works cited|literature cited"
)
_LISTS = frozenset(_LIST_TITLES.split("|"))
_HEADING = re.compile(r"^(={2,6})\s*(.+?)\s*\1\s*$", re.MULTILINE)
_MIN_LENGTH = 100  # characters of a section; shorter ones are stubs and lists


def collect_sections(job: Collection) -> StepLog:
    """Fetch each species' article and write its sections to `sections.jsonl`; articles are in `articles.jsonl`.

    The article is requested by the title in the list, else by the scientific name, which redirects to the article,
    else by the common name. An article that does not have the scientific name in it is not the species'.

    Returns:
        the log; records have taxon_id, title, section, text, revision, licence, licence_url, attribution, source_url.
        Lists (references, links) and sections of fewer than 100 characters are left out.

    Raises:
        Unavailable: Wikipedia does not answer; what was finished stays.
    """
    articles, log = (job.log(name, {"source": "Wikipedia"}) for name in ("articles", "sections"))
    for taxon in tracked(job.taxa.values(), "articles", job.taxa, job.progress):
        article = _article(taxon, articles, job)
        for number, (section, text) in enumerate(sections_of(article["text"]) if article else ()):
            key = f"{article['taxon_id']}/{number:03d} {section}"
            if not log.done(key):
                about = {name: article[name] for name in ("taxon_id", "title", "revision", "source_url")}
                credit = f'authors of "{article["title"]}", Wikipedia, revision {article["revision"]}'
                record = {"section": section, "text": text, **_RIGHTS, "attribution": credit}
                log.add(key, {"outcome": "kept", **about, **record})
    return log


def sections_of(text: str) -> list[tuple[str, str]]:
    """An article's sections with their texts; subsections stand under `Section: subsection`.

    >>> song = "It calls all night. " * 6
    >>> [title for title, _ in sections_of(f"== Song ==\\n{song}\\n=== Call ===\\n{song}\\n== Notes ==\\n{song}")]
    ['Song', 'Song: Call']
    """
    parts = _HEADING.split(text)
    sections, heads = [("Lead", parts[0])], {}
    for marks, title, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        heads = {depth: head for depth, head in heads.items() if depth < len(marks)} | {len(marks): title}
        sections.append((": ".join(heads.values()), body))
    cleaned = [(title, " ".join(body.split())) for title, body in sections]
    return [
        (title, body)
        for title, body in cleaned
        if len(body) >= _MIN_LENGTH and not _LISTS & {part.lower() for part in title.split(": ")}
    ]


def _article(taxon: Taxon, articles: StepLog, job: Collection) -> dict[str, Any]:
    """The first article that is the species'; empty if none is."""
    number = str(taxon.taxon_id)
    for title in filter(None, (taxon.article, taxon.scientific_name, taxon.common_name)):
        record = logged_answer(articles, f"{number}/{title}", partial(_request, title, taxon, job), number)
        if record["outcome"] == "kept":
            return record
    return {}


def _request(title: str, taxon: Taxon, job: Collection) -> dict[str, Any]:
    params = {
        "action": "query",
        "format": "json",
        "formatversion": 2,
        "prop": "extracts|revisions|pageprops",
        "explaintext": 1,
        "exsectionformat": "wiki",
        "rvprop": "ids|timestamp",
        "ppprop": "disambiguation",
        "redirects": 1,
        "maxlag": 5,
        "pageids" if title.isdigit() else "titles": title,
    }
    api = job.addresses.wikipedia
    page = job.http.json(api, params, again=_error_in)["query"]["pages"][0]
    if page.get("missing") or page.get("invalid") or not page.get("extract"):
        return {"outcome": "no such article"}
    if "disambiguation" in page.get("pageprops", {}):
        return {"outcome": "the title has several meanings"}
    # Genus and species may be written apart, or the genus short; the species' own name must stand there.
    if taxon.scientific_name.split()[1] not in page["extract"]:
        return {"outcome": f"another subject: {page['title']}"}
    revision = page["revisions"][0]
    return {
        "outcome": "kept",
        "title": page["title"],
        "revision": revision["revid"],
        "timestamp": revision["timestamp"],
        "source_url": f"{api.rpartition('/')[0]}/index.php?oldid={revision['revid']}",
        "text": page["extract"],
    }


def _error_in(answer: Any) -> str | None:
    """The API reports errors, which pass, in answers of status 200."""
    if not isinstance(answer, dict) or "error" not in answer:
        return None if isinstance(answer, dict) and "query" in answer else "an answer without a query's result"
    return f"{answer['error'].get('code')}: {answer['error'].get('info')}"
