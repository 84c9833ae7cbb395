"""Requests a second of `confu serve`, and how long they take, with and without batching; and what overload does.

python benchmarks/serve.py --index runs/demo/index               # three minutes, one process serves, one asks
python benchmarks/serve.py --index runs/demo/index --quick       # only whether both ways give the same: seconds

Each request sends the files of an item of the index, of the modalities that `--query` names, or asks by the item's id
with `--by id`. A client asks again as soon as it is answered. Under overload requests come at four times the rate that
was answered, whether or not those before have been: each must get an answer, 200 or 503.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import time
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from measure import parser, write_results

from confu.index import Index
from confu.serve import ServeSettings, server_of
from confu.serve.media import local_file

_BOUNDARY = "confu-benchmark"


def main() -> None:
    options = parsed()
    requests = requests_of(options)
    ways = {"batches": {"max_batch": options.batch}, "one by one": {"max_batch": 1}}
    if options.quick:
        answers = [
            served(options, way, lambda port: asyncio.run(answers_of(port, requests[:8]))) for way in ways.values()
        ]
        check_equal(*answers)
        print(f"{len(answers[0])} answers of both ways are the same")
        return
    rows: list[dict[str, Any]] = []
    for name, way in ways.items():
        rows += served(options, way, lambda port, name=name: loads(options, port, requests, name))
    best = max(row["a second"] for row in rows if row["way"] == "batches")
    overload = served(options, ways["batches"], lambda port: asyncio.run(flood(options, port, requests, 4 * best)))
    print(f"overload, {overload['asked a second']:.0f} a second: {overload['statuses']}, lost {overload['lost']}, "
          f"answered {overload['answered a second']:.0f} a second, p95 {overload['p95_ms']:.0f} ms, memory of the "
          f"server {overload['server_mib_before']:.0f} -> {overload['server_mib_after']:.0f} MiB")  # fmt: skip
    write_results(options, {}, rows=rows, overload=overload)


def parsed() -> argparse.Namespace:
    asked = parser(__doc__, "serve")
    asked.add_argument("--index", required=True, help="folder of the index")
    asked.add_argument("--run", help="where its model lies, if it was moved")
    asked.add_argument("--query", default="image+audio", help="the modalities that ask")
    asked.add_argument("--target", default="text")
    asked.add_argument("--by", choices=("files", "id"), default="files")
    asked.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    asked.add_argument("--seconds", type=float, default=10, help="of each measurement")
    asked.add_argument("--batch", type=int, default=32)
    asked.add_argument("--items", type=int, default=200, help="different requests, sent in turn")
    return asked.parse_args()


def requests_of(options: argparse.Namespace) -> list[bytes]:
    """Requests as they go over the wire, one an item that has all that asks."""
    found = []
    with Index.open(options.index) as index:
        for id in index.ids():
            media, names = index.get(id).media, options.query.split("+")
            if options.by == "id":
                body, kind = (
                    json.dumps({"id": id, "subset": options.query, "target": options.target}).encode(),
                    "application/json",
                )
            elif all(name in media for name in names):
                parts = []
                for name in names:
                    text = index.about.kinds[name] == "text"
                    content = media[name].encode() if text else local_file(media[name], index.folder).read_bytes()
                    parts.append((name, content, b"" if text else b'; filename="f"'))
                parts.append(("target", options.target.encode(), b""))
                body, kind = form(parts), f"multipart/form-data; boundary={_BOUNDARY}"
            else:
                continue
            head = ("POST /v1/search HTTP/1.1", "Host: localhost", f"Content-Type: {kind}",
                    f"Content-Length: {len(body)}", "", "")  # fmt: skip
            found.append("\r\n".join(head).encode() + body)
            if len(found) == options.items:
                break
    if not found:
        raise SystemExit(f"no item of {options.index} has files of {options.query}; try --by id")
    return found


def form(parts: list[tuple[str, bytes, bytes]]) -> bytes:
    lines = [
        b"--%b\r\nContent-Disposition: form-data; name=\"%b\"%b\r\n\r\n%b\r\n"
        % (_BOUNDARY.encode(), name.encode(), file, content)
        for name, content, file in parts
    ]  # fmt: skip
    return b"".join(lines) + f"--{_BOUNDARY}--\r\n".encode()


def served(options: argparse.Namespace, way: dict[str, Any], work: Any) -> Any:
    """Do something with a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, options.index, options.run, options.threads, way))
    process.start()
    there.close()
    try:
        return work(here.recv())
    finally:
        process.terminate()  # SIGTERM: the graceful way
        process.join(30)


def serve(pipe: Connection, index: str, run: str | None, threads: int, way: dict[str, Any]) -> None:
    from confu.search import Collection

    # With the protocol named, as asyncio turns Nagle's algorithm off only then; else each answer waits for 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(4096)
    server = server_of(Collection.open(index, run), ServeSettings(threads=threads, page=False, **way))
    pipe.send(listening.getsockname()[1])
    server.config.log_level = None
    server.run(sockets=[listening])


class Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        if b"connection: close" in lines:
            writer.close()
            self.streams = None
        return int(head.split()[1]), body


async def answers_of(port: int, requests: list[bytes]) -> list[Any]:
    """What is found by some requests at once."""
    found = await asyncio.gather(*(Client(port).ask(request) for request in requests))
    return [json.loads(body) for _, body in found]


def check_equal(batched: list[Any], single: list[Any]) -> None:
    """Both ways find the same, but for rounding."""
    for one, other in zip(batched, single, strict=True):
        pairs = [(a["score"], b["score"]) for a, b in zip(one["hits"], other["hits"], strict=True)]
        if not pairs or any(abs(a - b) > 1e-5 for a, b in pairs):
            raise SystemExit(f"batches answer otherwise: {one} and {other}")


def loads(options: argparse.Namespace, port: int, requests: list[bytes], name: str) -> list[dict[str, Any]]:
    rows = []
    asyncio.run(load(port, requests, 4, 2.0))  # warm
    for clients in options.clients:
        row = {"way": name, **asyncio.run(load(port, requests, clients, options.seconds))}
        rows.append(row)
        print(f"{name:11} {clients:3} clients {row['a second']:7.1f} a second, p50 {row['p50_ms']:6.1f}, "
              f"p95 {row['p95_ms']:6.1f}, p99 {row['p99_ms']:6.1f} ms, {row['statuses']}", flush=True)  # fmt: skip
    return rows


async def load(port: int, requests: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Clients that ask again as soon as they are answered."""
    times: list[float] = []
    statuses: Counter[int] = Counter()
    begun = time.perf_counter()

    async def one(number: int) -> None:
        client, place = Client(port), number
        while time.perf_counter() - begun < seconds:
            asked = time.perf_counter()
            status, _ = await client.ask(requests[place % len(requests)])
            times.append(time.perf_counter() - asked)
            statuses[status] += 1
            place += clients

    await asyncio.gather(*map(one, range(clients)))
    took = time.perf_counter() - begun
    return {"clients": clients, "a second": len(times) / took, "statuses": dict(statuses), **spread(times)}


async def flood(options: argparse.Namespace, port: int, requests: list[bytes], rate: float) -> dict[str, Any]:
    """Requests at a rate, whatever becomes of those before."""
    idle: list[Client] = []
    times: list[float] = []
    statuses: Counter[int] = Counter()
    lost: Counter[str] = Counter()

    async def one(number: int) -> None:
        client = idle.pop() if idle else Client(port)
        asked = time.perf_counter()
        try:
            status, _ = await asyncio.wait_for(client.ask(requests[number % len(requests)]), 60)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            lost[type(error).__name__] += 1
            return
        statuses[status] += 1
        if status == 200:
            times.append(time.perf_counter() - asked)
        idle.append(client)

    await load(port, requests, 4, 2.0)
    before = await memory(port)
    begun, tasks, sent = time.perf_counter(), set(), 0
    while (passed := time.perf_counter() - begun) < options.seconds:
        while sent < passed * rate:
            tasks.add(asyncio.ensure_future(one(sent)))
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    took = time.perf_counter() - begun
    return {
        "asked a second": sent / options.seconds, "sent": sent, "statuses": dict(statuses), "lost": sum(lost.values()),
        "of these": dict(lost), "answered a second": statuses[200] / took, **spread(times),
        "server_mib_before": before, "server_mib_after": await memory(port),
    }  # fmt: skip


async def memory(port: int) -> float:
    """MiB that the server holds."""
    _, body = await Client(port).ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    line = next(one for one in body.decode().splitlines() if one.startswith("process_resident_memory_bytes"))
    return float(line.split()[1]) / 2**20


def spread(times: list[float]) -> dict[str, float]:
    if len(times) < 2:
        return {"p50_ms": float("nan"), "p95_ms": float("nan"), "p99_ms": float("nan")}
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {f"p{at}_ms": 1000 * cuts[at - 1] for at in (50, 95, 99)}


if __name__ == "__main__":
    main()
