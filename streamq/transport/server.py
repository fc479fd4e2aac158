"""The facts of a server, and whether streamq can run on it.

Owns the parsing of INFO and the check of version and eviction policy. Must not send anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from streamq.errors import ServerTooOld

OLDEST_REDIS: Final = (7, 0, 0)
OLDEST_VALKEY: Final = (7, 2, 0)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Kind and version, the id of this run of the server, its eviction policy, its role (master or slave) and
    the id of its replication history; '' if something is unknown."""

    kind: str
    version: str
    run_id: str
    eviction: str
    role: str = ""
    replid: str = ""

    @property
    def incarnation(self) -> str:
        """Identifies the server and its data. If it changed, data may be missing: the server restarted,
        another became master, or it lost its role and got it back."""
        return f"{self.run_id} {self.replid}"

    @property
    def evicts(self) -> bool:
        """Whether the server may evict keys: tasks would be lost without a trace."""
        return self.eviction not in ("", "noeviction")


def parse_info(info: bytes) -> ServerInfo:
    """Return the facts in a reply to INFO."""
    lines = info.decode("utf-8", "replace").splitlines()
    rows = {name: value for name, _, value in (line.partition(":") for line in lines)}
    kind = "valkey" if "valkey_version" in rows else "redis"
    version = rows.get(f"{kind}_version", "")
    names = ("run_id", "maxmemory_policy", "role", "master_replid")
    return ServerInfo(kind, version, *(rows.get(name, "") for name in names))


def check_version(info: ServerInfo, where: str) -> None:
    """Raise ServerTooOld if the server lacks what the scripts need."""
    numbers = tuple(int(part) for part in info.version.split(".")[:3] if part.isdigit())
    oldest = OLDEST_VALKEY if info.kind == "valkey" else OLDEST_REDIS
    if numbers and numbers < oldest:
        raise ServerTooOld(
            f"{where} runs {info.kind} {info.version}: streamq needs Redis 7.0 or Valkey 7.2, or newer. "
            "Upgrade the server"
        )


class _Log(Protocol):
    def error(self, event: str, **fields: object) -> object: ...


def warn_of_eviction(servers: Iterable[tuple[str, ServerInfo]], log: _Log) -> None:
    """Log an error for each server that may evict tasks."""
    for where, info in servers:
        if info.evicts:
            log.error(
                "server.evicts",
                server=where,
                policy=info.eviction,
                fix="tasks WILL BE LOST: set maxmemory-policy to noeviction on the server",
            )
