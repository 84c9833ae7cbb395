"""Keys that go over the wire and nowhere else: not into messages, not into logs."""

import logging
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

HIDDEN = "***"


def without(text: str, secrets: Mapping[str, str]) -> str:
    """A text with every secret in it replaced, as it stands and as it stands in an address.

    >>> without("GET /recordings?key=a%2Fb&page=2", {"key": "a/b"})
    'GET /recordings?key=***&page=2'
    """
    for value in secrets.values():
        for form in (value, quote(value), quote(value, safe=""), quote_plus(value)):
            text = text.replace(form, HIDDEN) if form else text
    return text


class HidingFilter(logging.Filter):
    """Replaces the secrets in whatever a logger is given: HTTP libraries log the addresses that they ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without the secrets."""
        if self.secrets:
            record.msg, record.args = without(record.getMessage(), self.secrets), ()
        return True


hiding = HidingFilter()


def hide(secrets: Mapping[str, str]) -> None:
    """Keep these out of what the HTTP library logs, from now on."""
    hiding.secrets.update(secrets)
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.connection"):
        logging.getLogger(name).addFilter(hiding)
