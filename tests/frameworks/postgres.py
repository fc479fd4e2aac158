"""A private PostgreSQL on a unix socket, as a user that is not root: initdb refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql")


def binaries() -> Path | None:
    """The folder of initdb and postgres; None if there is no PostgreSQL."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    listed = [one for place in _PLACES for one in Path(place).glob("*/bin") if (one / "initdb").exists()]
    return max(listed, key=lambda one: int(one.parent.name) if one.parent.name.isdigit() else 0, default=None)


def _user() -> str | None:
    """Another user than root, if this is root; None if there is none."""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    return None


def missing() -> str:
    """Why there can be no server here; '' if there can."""
    if binaries() is None:
        return "no PostgreSQL here: apt-get install postgresql"
    if os.getuid() == 0 and (_user() is None or shutil.which("setpriv") is None):
        return "PostgreSQL does not run as root, and there is no other user or no setpriv"
    return ""


class Postgres:
    """A running cluster. host: the folder of its socket. Its database and its user are called `site`."""

    def __init__(self, folder: Path) -> None:
        self.host = str(folder)
        self._folder = folder
        self._bin = binaries()
        assert self._bin is not None
        self._as: list[str] = []
        if os.getuid() == 0:
            user = pwd.getpwnam(_user() or "")
            os.chown(folder, user.pw_uid, user.pw_gid)
            groups = f"--regid={user.pw_gid}", "--clear-groups"
            self._as = ["setpriv", f"--reuid={user.pw_uid}", *groups]

    def _run(self, name: str, *args: str) -> None:
        assert self._bin is not None
        command = [*self._as, str(self._bin / name), *args]
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Make the cluster and start it."""
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-U", "site", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        assert self._bin is not None
        command = [
            *self._as, str(self._bin / "postgres"), "-D", data, "-k", self.host, "-c", "listen_addresses=",
            "-c", "fsync=off",
        ]  # fmt: skip
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=self._log, stderr=self._log)
        socket = self._folder / ".s.PGSQL.5432"
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ready = [str(self._bin / "pg_isready"), "-q", "-h", self.host]
        while subprocess.run(ready, check=False, timeout=60).returncode:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self._run("createdb", "-h", self.host, "-U", "site", "--maintenance-db=postgres", "site")

    def stop(self) -> None:
        """End it at once."""
        if hasattr(self, "_process"):
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._log.close()

    @property
    def url(self) -> str:
        """For SQLAlchemy, behind the name of a driver."""
        return f"://site@/site?host={self.host}"


@contextmanager
def started() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="streamq-pg-", ignore_cleanup_errors=True) as folder:
        found = Postgres(Path(folder))
        try:
            found.start()
            yield found
        finally:
            found.stop()
