"""A private server for development, demos and tests. Not for production: it ends with its process.

Owns the start and the end of the server: it ends with its parent even after kill -9, and a Ctrl-C in the
terminal does not reach it. Must not import a client library, nor anything of streamq but errors, its binary
and its files.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from streamq.errors import RedisUnavailable
from streamq.forking import after_fork
from streamq.private_files import LOCK, open_private, own_folder, private_folder
from streamq.server_binary import find_server

START_TIMEOUT: Final = 10.0
STOP_TIMEOUT: Final = 5.0
POLL: Final = 0.003
LONGEST_SOCKET: Final = 100
"""Bytes of a unix socket's path; the kernel accepts 104 to 108."""

# This process's end of the pipe closes when it ends, however it ends. A child of the shim waits for that and
# ends the server, with SIGKILL after STOP_TIMEOUT (100 times 50 ms); the emptied lock file keeps other
# processes from using a server that is about to end. The shim waits for the server and cleans up after it. It
# ignores signals only once the server runs: the server inherits signals that are ignored before.
_SHIM: Final = """
private=$1 socket=$2 short=$3; shift 3
umask 077
exec 3<&0 </dev/null
"$@" >&2 3<&- &
server=$!
trap '' INT HUP TERM
echo $server
exec >/dev/null 2>&1
(
    read -r _ <&3; : >streamq.lock
    kill -TERM $server; n=0
    while [ $n -lt 100 ] && kill -0 $server; do n=$((n + 1)); sleep 0.05; done
    kill -KILL $server
) &
watcher=$!
wait $server
rm -f "$socket"
[ -z "$short" ] || rmdir "$short"
[ -z "$private" ] || rm -rf "$private"
kill -KILL $watcher
"""


class EmbeddedServer:
    """One server on a unix socket, or with `port` on 127.0.0.1. `config` adds or overrides its options.

    Without `data_dir` it keeps no data. With one it writes an append-only file there, and processes with the
    same directory share one server: the first process starts it, and it ends with that process. `owned` is
    False in the others; these use its socket, whatever port they asked for.
    """

    url: str = ""
    pid: int = 0
    owned: bool = False

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        self._data_dir = data_dir.resolve() if data_dir is not None else None
        self._port, self._binary, self._config = port, binary, dict(config or {})
        self._shim: subprocess.Popen[bytes] | None = None
        self._private: Path | None = None
        self._home = self._socket = Path()
        self._short: Path | None = None  # the folder of the socket, if the path of `_home` is too long

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> EmbeddedServer:
        """Start the server; return when it replies. Raises UsageError, or RedisUnavailable with the end of
        its log."""
        if self._running():
            return self
        self.stop()
        try:
            self._prepare()
            self._attach_or_launch(time.monotonic() + START_TIMEOUT)
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError) and not isinstance(error, RedisUnavailable):
                raise RedisUnavailable(f"cannot start a server in {self._home}: {error}") from None
            raise
        return self

    def stop(self) -> None:
        """End the server if this object started it. May be called twice."""
        with _FORKING:  # a child that is forked between the two steps would keep the pipe open
            shim, self._shim = self._shim, None
            if shim is not None and shim.stdin is not None:
                shim.stdin.close()
            _LIVE.discard(self)
        self.pid, self.owned = 0, False
        if shim is not None:
            try:
                shim.wait(STOP_TIMEOUT + 1.0)
            except subprocess.TimeoutExpired:
                os.killpg(shim.pid, signal.SIGKILL)  # it is not reaped yet, so the group is still its own
                shim.wait()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None

    def disown(self) -> None:
        """Release the server after a fork: it is the parent's. The child's copy of the pipe must not keep it
        alive."""
        shim, self._shim, self._private, self.owned = self._shim, None, None, False
        if shim is not None and shim.stdin is not None:
            shim.stdin.close()
            shim.returncode = 0  # it is not our child, so there is nothing to wait for

    def _running(self) -> bool:
        if self._shim is not None:
            # Right after a kill the shim still waits for its server.
            return self._shim.poll() is None and _listens(self._socket)
        return self.pid > 0 and _answers(self._socket)  # another process's server

    def _prepare(self) -> None:
        """Create the directory, and choose the path of the socket."""
        if self._data_dir is None:
            self._private = Path(tempfile.mkdtemp(prefix="streamq-", dir=_short_temporary()))
        self._home = home = self._data_dir or self._private or Path()
        own_folder(home)
        self._socket, self._short = home / "s.sock", None
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET:
            digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
            self._short = _short_temporary() / f"streamq-{os.getuid()}-{digest}"
            private_folder(self._short)
            self._socket = self._short / "s.sock"
        local = f"unix://{quote(str(self._socket))}"
        self.url = local if self._port is None else f"redis://127.0.0.1:{self._port}"

    def _attach_or_launch(self, deadline: float) -> None:
        while not (self._attach() or self._launch(deadline)):
            # Another process's server holds the lock: it is starting, ending, or busy.
            if time.monotonic() > deadline:
                raise RedisUnavailable(
                    f"the server that runs in {self._home} does not reply: look at server.log there"
                )
            time.sleep(POLL)

    def _attach(self) -> bool:
        """Use the running server of the directory, which the lock file names."""
        with suppress(OSError, ValueError):
            pid, name = (self._home / LOCK).read_text().split("\n", 1)
            path = Path(name)
            # Outside this directory another user may have put a socket there since.
            trusted = path.parent == self._home or path.lstat().st_uid == os.getuid()
            if trusted and _answers(path):
                self.pid, self._socket, self.url = int(pid), path, f"unix://{quote(name)}"
                return True
        return False

    def _launch(self, deadline: float) -> bool:
        """Start the server; return False if another process's server has the directory."""
        command = self._command()
        with open_private(self._home / "server.log") as log:
            if not self._spawn(command, log):
                return False
            while not _answers(self._socket):
                self._check_start(log, deadline)
                time.sleep(POLL)
        return True

    def _spawn(self, command: list[str], log: io.FileIO) -> bool:
        # The server inherits the lock: it is free exactly when no server runs here, whichever process was
        # killed. _FORKING keeps a child that another thread forks from inheriting the lock or the pipe.
        with _FORKING, open_private(self._home / LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            log.truncate(0)
            lock.truncate(0)
            self._shim = shim = subprocess.Popen(  # noqa: S603 - the shell receives all words as arguments
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True, pass_fds=[lock.fileno()], cwd=self._home,
            )  # fmt: skip
            _LIVE.add(self)
            with shim.stdout or io.BytesIO() as output:
                self.pid = int(output.readline() or 0)
            lock.write(f"{self.pid}\n{self._socket}".encode())
        self.owned = True
        return True

    def _command(self) -> list[str]:
        self._binary = self._binary or find_server()
        kept = "no" if self._data_dir is None else "yes"
        paths = {"unixsocket": str(self._socket), "unixsocketperm": "700", "dir": str(self._home)}
        network = {"port": str(self._port or 0), "bind": "127.0.0.1", "daemonize": "no"}
        data = {"save": "", "appendonly": kept, "appendfsync": "everysec"}
        options = paths | network | data | {"maxmemory-policy": "noeviction"} | self._config
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        shim = ["/bin/sh", "-c", _SHIM, "streamq-embedded", str(self._private or ""), str(self._socket)]
        shim.append(str(self._short or ""))
        return [*shim, str(self._binary), *words]

    def _check_start(self, log: io.FileIO, deadline: float) -> None:
        ended = self._shim is None or self._shim.poll() is not None
        if ended or time.monotonic() > deadline:
            fault = "ended at its start" if ended else f"did not reply within {START_TIMEOUT:g} s"
            raise RedisUnavailable(f"the embedded server {fault}: {_end_of_log(log)}")


def _short_temporary() -> Path:
    default = Path(tempfile.gettempdir())
    # A private folder is created in it.
    return default if len(os.fsencode(default)) <= 60 else Path("/tmp")  # noqa: S108 # nosec B108


def _answers(path: Path) -> bool:
    """Return whether a server is ready on a socket. While it loads its data it replies with an error."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False


def _listens(path: Path) -> bool:
    """Return whether a process listens on a socket, however busy it is or even stopped."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
    except OSError as error:
        return not isinstance(error, (ConnectionRefusedError, FileNotFoundError))
    return True


def _end_of_log(log: io.FileIO) -> str:
    """Return the end of the log in one line. Read through the open handle: the file is deleted with the
    server."""
    text = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    warnings = [line.partition(" # ")[2] for line in lines if " # " in line and " # WARNING" not in line]
    return " / ".join(warnings[-2:] or lines[-3:]) or "its log is empty"


_LIVE: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()
_SHARED: dict[Path | None, EmbeddedServer] = {}
_FORKING = threading.RLock()
_sharing = threading.Lock()


def shared(data_dir: Path | None = None) -> EmbeddedServer:
    """Return this process's server for a directory, started at first use and stopped at exit."""
    key = data_dir.resolve() if data_dir is not None else None
    with _sharing:
        return _SHARED.setdefault(key, EmbeddedServer(data_dir=key)).start()


@atexit.register
def _stop_all() -> None:
    for server in list(_LIVE):
        server.stop()


def _after_fork() -> None:
    global _sharing  # noqa: PLW0603 - the parent's may be held by a thread that does not exist here
    _sharing = threading.Lock()
    for server in list(_LIVE):
        server.disown()
    _LIVE.clear()


os.register_at_fork(
    before=_FORKING.acquire, after_in_parent=_FORKING.release, after_in_child=_FORKING.release
)
after_fork(_after_fork)
