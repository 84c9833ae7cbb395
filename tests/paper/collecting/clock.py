"""A client whose time passes only when it sleeps."""

from confu_paper.collecting.client import Client


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def client(self, **settings) -> Client:
        return Client("ada@example.org", clock=self, sleep=self.sleep, **{"timeout": 10.0, **settings})
