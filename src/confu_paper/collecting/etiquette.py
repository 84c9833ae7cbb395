"""How often each source may be asked, and who we say we are."""

from importlib.metadata import PackageNotFoundError, version

# iNaturalist: "keep it to 60 requests per minute or lower" (API v1, terms of use). xeno-canto: one a second (its page
# on the API), and other clients report a limit by the hour. Wikipedia: one after another (API:Etiquette).
# The photos lie in a public bucket that is meant for bulk use.
RATES = {
    "api.inaturalist.org": 1.0,
    "xeno-canto.org": 0.25,
    "en.wikipedia.org": 1.0,
    "inaturalist-open-data.s3.amazonaws.com": 5.0,
}


def user_agent(contact: str) -> str:
    """Who asks, in the form that Wikimedia's user agent policy gives: name/version (contact) library/version.

    Args:
        contact: an e-mail address or a web page, by which the person who runs this can be reached.

    Raises:
        ValueError: neither of them.

    >>> user_agent("ada@example.org")
    'contrastive-fusion/... (ada@example.org) urllib3/...'
    """
    if not ("@" in contact.strip("@") or contact.startswith(("http://", "https://"))) or not contact.isprintable():
        raise ValueError(
            f"contact: expected an e-mail address or a web page by which the sources can reach you; got {contact!r}"
        )
    return f"contrastive-fusion/{_version('contrastive-fusion')} ({contact}) urllib3/{_version('urllib3')}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unreleased"
