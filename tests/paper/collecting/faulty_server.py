"""A server on this machine that answers as iNaturalist, xeno-canto and Wikipedia do, with faults on demand."""

import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import soundfile
from PIL import Image

KEY = "s3cret/key+"
LICENCES = ("cc-by-nc", "cc0", "cc-by", None, "cc-by-nd")
TAXA = {
    "4956": {"name": "Ardea alba", "preferred_common_name": "Great Egret"},
    "8029": {"name": "Corvus corax", "preferred_common_name": "Common Raven"},
    "12942": {"name": "Sialia sialis", "preferred_common_name": "Eastern Bluebird"},
}


def picture(number: int) -> bytes:
    """A small JPEG that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def sound(seconds: float, rate: int = 8000, kind: str = "MP3") -> bytes:
    """A tone."""
    file = BytesIO()
    tone = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.3).astype(np.float32)
    soundfile.write(file, tone, rate, format=kind)
    return file.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed in these tests: their connections break."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FaultyServer:
    """Use as a context manager.

    Attributes:
        asked: every path with its query, in order.
        finished: those whose answer left whole.
        agents: the user agents that asked.
        observations: iNaturalist's, by taxon.
        recordings: xeno-canto's, by name.
        articles: Wikipedia's, by title.
    """

    def __init__(self, observations: int = 12) -> None:
        self.asked: list[str] = []
        self.finished: list[str] = []
        self.agents: set[str] = set()
        self._faults: dict[str, list[str]] = defaultdict(list)
        self.before: Callable[[str], None] = lambda path: None
        self.after: Callable[[str], None] = lambda path: None
        self._lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        self.observations = {taxon: self._observations(taxon, observations) for taxon in TAXA}
        self.recordings = {one["name"].lower(): self._recordings(one["name"]) for one in TAXA.values()}
        self.sounds: dict[str, bytes] = {}
        self.articles = {one["name"]: article(one["name"], one["preferred_common_name"]) for one in TAXA.values()}

    def __enter__(self) -> "FaultyServer":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def addresses(self) -> dict[str, str]:
        """The `api` of each source."""
        return {
            "inaturalist": f"{self.base}/v1",
            "xeno_canto": f"{self.base}/api/3",
            "wikipedia": f"{self.base}/w/api.php",
        }

    def fail(self, part: str, *faults: str) -> None:
        """Let the next requests whose path has this part fail so, one after another; "429:7" asks to wait 7 seconds."""
        self._faults[part] += faults

    def times(self) -> Counter[str]:
        """How often each address was asked."""
        return Counter(self.asked)

    def fault_of(self, path: str) -> str | None:
        with self._lock:
            for part, faults in self._faults.items():
                if part in path and faults:
                    return faults.pop(0)
        return None

    def _observations(self, taxon: str, count: int) -> list[dict[str, Any]]:
        made = []
        for place in range(count):
            number = int(taxon) * 1000 + place
            photos = [
                {"id": number * 10 + nth, "license_code": LICENCES[(place + nth) % len(LICENCES)],
                 "original_dimensions": {"width": 2048, "height": 1365},
                 "url": f"{self.base}/photos/{number * 10 + nth}/square.jpg",
                 "attribution": f"(c) user {place}, some rights reserved", "flags": []}
                for nth in range(1 + place % 2)
            ]  # fmt: skip
            made.append({"id": number, "quality_grade": "research", "taxon": {"id": int(taxon)}, "photos": photos})
        return made

    def _recordings(self, name: str, count: int = 4) -> list[dict[str, Any]]:
        genus, species = name.split()
        first = 100_000 + sum(map(ord, name))
        return [
            {"id": str(first + place), "gen": genus, "sp": species, "ssp": "", "grp": "birds", "en": "", "cnt": "Spain",
             "rec": f"Recordist {place}", "type": "song" if place % 2 else "call, flight call", "sex": "male",
             "stage": "adult", "method": "field recording", "url": f"//xeno-canto.org/{first + place}",
             "file": f"{self.base}/{first + place}/download", "file-name": f"XC{first + place}.mp3",
             "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/", "q": "A", "length": "0:12", "also": []}
            for place in range(count)
        ]  # fmt: skip


def article(name: str, common: str) -> dict[str, Any]:
    """One with a lead, two sections, a subsection and lists."""
    said = f"The {common.lower()} ({name}) is a bird that is seen near water at dawn and at dusk. " * 3
    parts = [said, "== Description ==", said, "== Behaviour ==", "=== Voice ===", said, "== References ==", said]
    revision = {"revid": 1_000_000 + len(name), "parentid": 1, "timestamp": "2026-01-02T03:04:05Z"}
    return {
        "pageid": len(name) * 100, "ns": 0, "title": common, "extract": "\n\n\n".join(parts), "revisions": [revision]
    }  # fmt: skip


def _handler(owner: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            with owner._lock:
                owner.asked.append(self.path)
                owner.agents.add(self.headers["User-Agent"])
            owner.before(self.path)
            try:
                fault = owner.fault_of(self.path)
                if fault is not None:
                    self._fail(fault)
                    return
                self._send(*_answer(owner, self.path))
                with owner._lock:
                    owner.finished.append(self.path)
                owner.after(self.path)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client went away, as it may

        def _send(self, status: int, called: str, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", called)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _fail(self, fault: str) -> None:
            fault, _, after = fault.partition(":")
            page = b"<!DOCTYPE html><html><body>We are busy. Come back soon.</body></html>"
            status, called, body = 200, "text/html; charset=utf-8", page
            if fault.isdigit():
                self._send(int(fault), called, body, {"Retry-After": after} if after else {})
            elif fault == "page":
                self._send(status, called, body)
            elif fault == "no json":
                self._send(status, "application/json", b'{"results": [{"id": 1, ')
            elif fault == "wrong type":
                self._send(status, "video/x-flv", b"FLV\x01" + bytes(100))
            elif fault == "garbage":
                self._send(status, "application/octet-stream", bytes(range(7, 207)))
            elif fault == "maxlag":
                said = {"error": {"code": "maxlag", "info": "Waiting for a database: 6 seconds lagged.", "lag": 6}}
                self._send(status, "application/json", json.dumps(said).encode(), {"Retry-After": after or "5"})
            elif fault == "slow":
                time.sleep(float(after or 1.5))
                self._send(*_answer(owner, self.path))
            elif fault == "redirect":
                self._send(302, called, b"", {"Location": after})
            else:
                self._break(fault)

        def _break(self, fault: str) -> None:
            """Answers whose length is a lie."""
            _, called, body, *_ = _answer(owner, self.path)
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", called)
            if fault == "endless":
                self.send_header("Connection", "close")
            else:  # "cut" promises what never comes, "huge" says so, "short" says less than there is
                lengths = {"cut": len(body), "huge": 10**12, "short": len(body) // 2}
                self.send_header("Content-Length", str(lengths[fault]))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
            while fault in ("endless", "huge"):
                self.wfile.write(bytes(1 << 16))

    return Handler


def _answer(owner: FaultyServer, path: str) -> tuple[int, str, bytes]:
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    steps = parts.path.strip("/").split("/")
    if parts.path == "/v1/taxa":
        return _json(_taxa(query))
    if parts.path == "/v1/observations":
        return _json(_observed(owner, query))
    if parts.path == "/api/3/recordings":
        return _recorded(owner, query)
    if parts.path == "/w/api.php":
        return _json(_read(owner, query))
    if steps[0] == "photos":
        return 200, "image/jpeg", picture(int(steps[1]))
    if steps[-1] == "download":
        return 200, "audio/mpeg", owner.sounds.get(steps[0]) or sound(12.0)
    return 404, "text/plain", b"not here"


def _json(content: Any, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json; charset=utf-8", json.dumps(content).encode()


def _taxa(query: dict[str, str]) -> dict[str, Any]:
    asked = query["q"].lower()
    results = [
        {"id": int(number), "rank": "species", "is_active": True, "matched_term": one["name"], **one}
        for number, one in TAXA.items()
        if asked.split()[0] in one["name"].lower()
    ]
    if asked == "casmerodius albus":  # an old name of the great egret
        results = [
            {"id": 4956, "rank": "species", "is_active": True, "matched_term": "Casmerodius albus", **TAXA["4956"]}
        ]
    return {"total_results": len(results), "page": 1, "per_page": 30, "results": results}


def _observed(owner: FaultyServer, query: dict[str, str]) -> dict[str, Any]:
    allowed = query["photo_license"].split(",")
    found = [
        one
        for one in owner.observations.get(query["taxon_id"], [])
        if any(photo["license_code"] in allowed for photo in one.get("photos") or [{"license_code": "cc0"}])
    ]
    found = [one for one in found if one["id"] > int(query.get("id_above", -1))]
    found = [one for one in found if one["id"] < int(query.get("id_below", 10**12))]
    found.sort(key=lambda one: one["id"], reverse=query["order"] == "desc")
    size = int(query["per_page"])
    return {"total_results": len(found), "page": 1, "per_page": size, "results": found[:size]}


def _recorded(owner: FaultyServer, query: dict[str, str]) -> tuple[int, str, bytes]:
    if query.get("key") != KEY:
        return _json({"error": "client_error", "message": "Missing or invalid 'key' parameter."}, 401)
    found = owner.recordings.get(query["query"].removeprefix('sp:"').removesuffix('"'), [])
    size, page = int(query["per_page"]), int(query["page"])
    listed = found[(page - 1) * size : page * size]
    answer = {"numRecordings": str(len(found)), "numSpecies": "1", "page": page, "numPages": -(-len(found) // size)}
    return _json({**answer, "recordings": listed})


def _read(owner: FaultyServer, query: dict[str, str]) -> dict[str, Any]:
    title = query.get("titles", query.get("pageids", ""))
    found = owner.articles.get(title, {"ns": 0, "title": title, "missing": True})
    return {"batchcomplete": True, "query": {"pages": [found]}}
