"""Real servers in sets, on free loopback ports: a primary with replicas and sentinels, and a cluster.

Owns their processes: they end with the set, and with this process however it ends. Uses the servers'
own commands only, so that `redis-cli` is not needed. Knows nothing of streamq but where to find a
server binary; nothing of pytest. The methods block; call them in a thread where there is an event loop.
"""

from __future__ import annotations

import io
import math
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.embedded import find_server

SLOTS: Final = 16384
LIMIT: Final = 20.0
"""Seconds to wait for anything that servers do by themselves."""
GIVEN_UP: Final = 6.0
"""Seconds after which a planned failover that did not come about is asked for again: the server has dropped
it after five."""

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
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in held]


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


class _Set:
    """What both sets are: nodes in a temporary folder, which start and end together."""

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


class SentinelSet(_Set):
    """A primary, its replicas and their sentinels.

    `url` is what a program connects with; `masters()` has one node, or none while nobody is elected.
    down_after: seconds of silence after which the sentinels give a master up.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        down_after: float = 1.5,
        service: str = "mymaster",
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        super().__init__(config, binary)
        self.service = service
        self.sentinels: list[Node] = []
        self._replicas, self._sentinels, self._down_after = replicas, sentinels, down_after

    def __enter__(self) -> SentinelSet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(node.address for node in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def master(self) -> Node:
        """Who the sentinels say is the master; waits until it says so itself."""
        found: Node = wait_for(self._agreed, "the sentinels agree on a master")
        return found

    def failover(self) -> Node:
        """A planned failover (SENTINEL FAILOVER); answers the new master."""
        before = self.master()
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            # It may be refused, or begun and given up, as long as the replica's link is fresh.
            wait_for(lambda: self._ask("FAILOVER", self.service), "a sentinel takes the failover")
            with suppress(TimeoutError):
                return self.new_master(before, 3.0)
        raise TimeoutError(f"{before} is still the master")

    def new_master(self, before: Node, limit: float = LIMIT) -> Node:
        """Wait for another master than `before`."""

        def found() -> Node | None:
            now = self._agreed()
            return None if now is before else now

        node: Node = wait_for(found, "a new master", limit)
        return node

    def settled(self) -> None:
        """Wait until all that live are replicas of one master, in sync, and the sentinels see them."""
        wait_for(self._in_sync, "the replicas are in sync")

    def _all(self) -> list[Node]:
        return [*self.sentinels, *self.nodes]

    def _build(self) -> None:
        ports = free_ports(1 + self._replicas + self._sentinels)
        data, watching = ports[: 1 + self._replicas], ports[1 + self._replicas :]
        primary, *others = data
        for port in data:
            replica_of = {} if port == primary else {"replicaof": f"127.0.0.1 {primary}"}
            words = server_words(self._binary, port, self._config | replica_of)
            self.nodes.append(Node(port, self._folder / str(port), words))
        for number, port in enumerate(watching, 1):
            self.sentinels.append(self._sentinel(number, port, watching, primary, others))
        for node in self._all():
            node.launch()
        for node in self._all():
            node.answers()
        for sentinel in self.sentinels:
            _hasten(sentinel)
        self.settled()

    def restart(self, node: Node) -> None:
        super().restart(node)
        if node in self.sentinels:
            _hasten(node)

    def _sentinel(
        self, number: int, port: int, all_ports: list[int], primary: int, others: list[int]
    ) -> Node:
        # They are told of one another: to find out by themselves takes them seconds.
        about = f"sentinel known-{{}} {self.service} 127.0.0.1 {{}}"
        lines = [
            f"port {port}", "bind 127.0.0.1", "dir .", f"sentinel myid {_sentinel_id(number)}",
            f"sentinel monitor {self.service} 127.0.0.1 {primary} {self._sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {self.service} {round(self._down_after * 1000)}",
            f"sentinel failover-timeout {self.service} 1000",
            *(about.format("replica", other) for other in others),
            *(
                f"{about.format('sentinel', other)} {_sentinel_id(n)}"
                for n, other in enumerate(all_ports, 1)
                if n != number
            ),
        ]  # fmt: skip
        folder = self._folder / str(port)
        node = Node(port, folder, [str(self._binary), "sentinel.conf", "--sentinel"])
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")
        return node

    def _ask(self, *words: str) -> Any:
        for sentinel in self.sentinels:
            if sentinel.alive:
                return sentinel.command("SENTINEL", *words)
        raise redis.ConnectionError("no sentinel is alive")

    def _agreed(self) -> Node | None:
        """The master of whom all living sentinels say so, where it says so too."""
        named = {
            int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1])
            for sentinel in self.sentinels
            if sentinel.alive
        }
        agreed = [node for node in self.nodes if named == {node.port} and node.alive]
        return next((node for node in agreed if node.role == "master"), None)

    def _in_sync(self) -> bool:
        master = self._agreed()
        if master is None:
            return False
        others = [node.info("replication") for node in self.nodes if node.alive and node is not master]
        linked = all(
            one.get("master_link_status") == "up" and one.get("master_port") == str(master.port)
            for one in others
        )
        seen = [_pairs(self._ask("MASTER", self.service))]
        return linked and all(
            int(row["num-slaves"]) >= len(others) and int(row["num-other-sentinels"]) >= self._sentinels - 1
            for row in seen
        )


def _hasten(sentinel: Node) -> None:
    """Let it look more often: at its usual pace it needs 10 s to make a replica of a former master."""
    periods = {"INFO-PERIOD": 300, "PING-PERIOD": 200, "PUBLISH-PERIOD": 300}
    sentinel.command("SENTINEL", "DEBUG", *(word for pair in periods.items() for word in pair))


def _sentinel_id(number: int) -> str:
    return f"{number:040x}"


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class ClusterSet(_Set):
    """A cluster: `masters` nodes with an even share of the slots, and `replicas` for each.

    `url` is what a program connects with. node_timeout: seconds of silence after which the others give
    a master up.
    """

    def __init__(
        self,
        *,
        masters: int = 3,
        replicas: int = 1,
        node_timeout: float = 1.0,
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        super().__init__(config, binary)
        self._masters, self._replicas, self._timeout = masters, replicas, node_timeout

    def __enter__(self) -> ClusterSet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes[: self._masters])}"

    def owner(self, slot: int) -> Node:
        """The master that serves a slot, as all living nodes see it."""
        found: Node = wait_for(lambda: self._owner(slot), f"all agree who serves slot {slot}")
        return found

    def replicas_of(self, master: Node) -> list[Node]:
        """The living replicas of a master."""
        return [
            node
            for node in self.replicas()
            if node.info("replication").get("master_port") == str(master.port)
        ]

    def failover(self, master: Node, how: str = "") -> Node:
        """A planned failover (CLUSTER FAILOVER on a replica; how: '', FORCE or TAKEOVER); the new master."""
        replica: Node = wait_for(
            lambda: next(
                (
                    node
                    for node in self.replicas_of(master)
                    if node.info("replication").get("master_link_status") == "up"
                ),
                None,
            ),
            "a replica in sync",
        )
        asked = -math.inf

        def took_over() -> bool:
            nonlocal asked
            if replica.role == "master":
                return True
            if time.monotonic() - asked > GIVEN_UP:
                asked = time.monotonic()
                replica.command("CLUSTER", "FAILOVER", *([how] if how else []))
            return False

        wait_for(took_over, "the replica is the master")
        return replica

    def settled(self) -> None:
        """Wait until every living node sees a whole cluster and every living replica is in sync."""
        wait_for(self._whole, "the cluster is whole")

    def migrate_slot(self, slot: int, to: Node, pause: float = 0.0) -> int:
        """Move a slot with its keys, one at a time, `pause` seconds between two; answers how many."""
        return sum(1 for _ in self.migration(slot, to, pause))

    def migration(self, slot: int, to: Node, pause: float = 0.0) -> Iterator[str]:
        """The same in steps: yields each key when it has been moved."""
        source = self.owner(slot)
        if source is to:
            return
        mine, theirs = (node.command("CLUSTER", "MYID") for node in (source, to))
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", mine)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.command("MIGRATE", "127.0.0.1", to.port, keys[0], 0, 5000)
            yield keys[0]
            time.sleep(pause)
        # Who receives it first, as a slot that nobody owns would lose its keys.
        for node in [to, source, *(one for one in self.masters() if one not in (to, source))]:
            node.command("CLUSTER", "SETSLOT", slot, "NODE", theirs)

    def _build(self) -> None:
        number = self._masters * (1 + self._replicas)
        ports = free_ports(2 * number)
        for port, bus in zip(ports[:number], ports[number:], strict=True):
            config = {
                "cluster-enabled": "yes", "cluster-port": str(bus), "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": str(round(self._timeout * 1000)),
                "cluster-replica-validity-factor": "0", "cluster-require-full-coverage": "no",
            }  # fmt: skip
            words = server_words(self._binary, port, config | self._config)
            self.nodes.append(Node(port, self._folder / str(port), words))
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.answers()
        self._join(ports[number:])
        self.settled()

    def _join(self, buses: list[int]) -> None:
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        share = SLOTS // self._masters
        for n, node in enumerate(masters):
            last = SLOTS - 1 if node is masters[-1] else (n + 1) * share - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", n * share, last)
        for n, node in enumerate(self.nodes):  # before any of them knows another
            node.command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in self.nodes:
            for other, bus in zip(self.nodes, buses, strict=True):
                if other is not node:
                    node.command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        ids = [node.command("CLUSTER", "MYID") for node in masters]
        for n, node in enumerate(replicas):
            knows_it = partial(node.command, "CLUSTER", "REPLICATE", ids[n % len(ids)])
            wait_for(knows_it, f"{node.address} knows its master")

    def _owner(self, slot: int) -> Node | None:
        """The master of a slot, where all that live agree."""
        seen = {
            row[2][1]
            for node in self.nodes
            if node.alive
            for row in node.command("CLUSTER", "SLOTS")
            if row[0] <= slot <= row[1]
        }
        return next((node for node in self.nodes if seen == {node.port} and node.alive), None)

    def _whole(self) -> bool:
        living = [node for node in self.nodes if node.alive]
        for node in living:
            info = dict(line.split(":", 1) for line in node.command("CLUSTER", "INFO").splitlines())
            if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) < len(self.nodes):
                return False
            told = node.info("replication")
            if told["role"] == "slave" and told.get("master_link_status") != "up":
                return False
        served = sum(
            last - first + 1
            for first, last, (_, port, *_), *_ in living[0].command("CLUSTER", "SLOTS")
            if any(node.port == port for node in living)
        )
        return bool(served == SLOTS)
