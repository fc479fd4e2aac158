"""Real server processes on free loopback ports, and what sets of them have in common.

Owns the processes: they end with the set, and with this process however it ends. Uses the servers'
own commands only, so that `redis-cli` is not needed. Knows nothing of streamq but where to find a
server binary; nothing of pytest. The methods block; call them in a thread where there is an event loop.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.server_binary import find_server
from tests.ports import free_port

LIMIT: Final = 20.0
"""Seconds to wait for anything that servers do by themselves."""


# The server ends when our end of the pipe closes, which it does however we end.
_SHIM: Final = """
exec 3<&0 </dev/null
"$@" >>server.log 2>&1 3<&- &
server=$!
echo $server
exec >/dev/null 2>&1
(read -r _ <&3; kill -KILL $server) &
watcher=$!
wait $server
kill -KILL $watcher
"""


def server_binary() -> Path:
    """redis-server where it is on the PATH, else the embedded Valkey's."""
    found = shutil.which("redis-server")
    return Path(found) if found else find_server()


def free_ports(number: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    return [free_port() for _ in range(number)]


def wait_for(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    """The first answer that is true; TimeoutError names `what` after the limit. A server that does not
    answer makes a condition false."""
    deadline = time.monotonic() + limit
    while True:
        with suppress(redis.RedisError):
            if answer := condition():
                return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        time.sleep(0.02)


class Node:
    """One server process on 127.0.0.1:`port`, in a folder of its own.

    words: its command line after the binary. Restarted, it finds its folder as it left it.
    tls: arguments for a client, where the port takes TLS only.
    """

    def __init__(
        self, port: int, folder: Path, words: Iterable[str], tls: Mapping[str, Any] | None = None
    ) -> None:
        self.port = port
        self.folder = folder
        self.pid = 0
        self._words = [str(word) for word in words]
        self._tls = dict(tls or {})
        self._shim: subprocess.Popen[bytes] | None = None
        self._client: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"<Node {self.address}>"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self._shim is not None and self._shim.poll() is None

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.launch()
        self.answers()

    def launch(self) -> None:
        """Start the process without waiting."""
        if self.alive:
            return
        self.stop()
        self._shim = shim = subprocess.Popen(
            ["/bin/sh", "-c", _SHIM, "streamq-test", *self._words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        with shim.stdout or io.BytesIO() as said:
            self.pid = int(said.readline() or 0)

    def answers(self) -> None:
        """Wait until it answers; TimeoutError has the end of its log."""
        try:
            wait_for(lambda: self.command("PING"), f"{self.address} answers")
        except TimeoutError as error:
            log = (self.folder / "server.log").read_text("utf-8", "replace")
            raise TimeoutError(f"{error}\n{log[-2000:]}") from None

    def stop(self) -> None:
        """End the process at once, as kill -9 does. Harmless twice."""
        shim, self._shim = self._shim, None
        if self._client is not None:
            self._client.close()
            self._client = None
        if shim is not None and shim.stdin is not None:
            shim.stdin.close()
            shim.wait(LIMIT)

    def command(self, *args: Any) -> Any:
        """Run one command on this server; raises redis.RedisError."""
        if self._client is None:
            self._client = redis.Redis(
                port=self.port, socket_timeout=5.0, decode_responses=True, protocol=2,
                retry=Retry(NoBackoff(), 0), **self._tls,
            )  # fmt: skip
            self._client.response_callbacks.clear()  # raw answers
        return self._client.execute_command(*args)

    def info(self, section: str) -> dict[str, str]:
        lines = str(self.command("INFO", section)).splitlines()
        return {name: value for name, _, value in (line.partition(":") for line in lines) if value}

    @property
    def role(self) -> str:
        """master or slave."""
        return str(self.info("replication")["role"])


def server_words(binary: Path, port: int, config: Mapping[str, str]) -> list[str]:
    options = {
        "port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": ".",
        "repl-diskless-sync-delay": "0", "maxmemory-policy": "noeviction",
    } | dict(config)  # fmt: skip
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


class ServerSet:
    """What all sets are: nodes in a temporary folder, which start and end together."""

    def __init__(self, config: Mapping[str, str] | None, binary: Path | None) -> None:
        self.nodes: list[Node] = []
        self._binary = binary or server_binary()
        self._config = dict(config or {})
        self._folder = Path()

    def start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="streamq-set-"))
        try:
            self._build()
        except BaseException:
            self.stop()
            raise

    def _build(self) -> None:
        raise NotImplementedError

    def _all(self) -> list[Node]:
        return self.nodes

    def stop(self) -> None:
        """End every process and delete the folder. Harmless twice."""
        for node in self._all():
            node.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def masters(self) -> list[Node]:
        """The nodes that are alive and say that they are masters."""
        return [node for node in self.nodes if node.alive and _is(node, "master")]

    def replicas(self) -> list[Node]:
        """The nodes that are alive and say that they are replicas."""
        return [node for node in self.nodes if node.alive and _is(node, "slave")]

    def kill(self, node: Node) -> None:
        """kill -9."""
        node.stop()

    def restart(self, node: Node) -> None:
        """Start a node that was killed, and wait until it answers; it finds its way back by itself."""
        node.start()

    def flush(self) -> None:
        """Empty every master."""
        for node in self.masters():
            node.command("FLUSHALL")


def _is(node: Node, role: str) -> bool:
    try:
        return node.role == role
    except redis.RedisError:
        return False
