"""All sources against a server of which every third answer fails."""

import itertools
from collections import Counter

from paper.collecting import killing
from paper.collecting.clock import Clock
from paper.collecting.faulty_server import FaultyServer

PASSING = ("429", "429:4", "500", "503", "cut", "page")


def contents(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_faults_that_pass_change_nothing(tmp_path, monkeypatch):
    count = itertools.count()
    faults: Counter[str] = Counter()

    def fault_of(path: str) -> str | None:
        number = next(count)
        fault = PASSING[number // 3 % len(PASSING)] if number % 3 == 2 else None
        faults.update([fault] if fault else [])
        return fault

    with FaultyServer() as server:
        killing.run(tmp_path / "without", server.addresses, Clock().client())
        needed = len(server.asked)
        monkeypatch.setattr(server, "fault_of", fault_of)
        killing.run(tmp_path / "with", server.addresses, Clock().client())
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    assert faults.total() > 0 and len(server.asked) == 2 * needed + faults.total()
