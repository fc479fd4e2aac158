"""What a server says of itself, and whether streamq can run on it.

Owns the reading of INFO and the check of version and eviction policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from streamq.errors import ServerTooOld

OLDEST_REDIS: Final = (7, 0, 0)
OLDEST_VALKEY: Final = (7, 2, 0)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Kind and version, the id of this run of the server, its eviction policy, its role (master or
    slave) and the id of the history of its data; '' where something is unknown."""

    kind: str
    version: str
    run_id: str
    eviction: str
    role: str = ""
    replid: str = ""

    @property
    def incarnation(self) -> str:
        """Another one means that the server may not have what it had: it restarted, or another took its
        place, or it lost its place and got it back."""
        return f"{self.run_id} {self.replid}"

    @property
    def evicts(self) -> bool:
        """Whether the server may drop keys of its own accord: tasks would be lost without a trace."""
        return self.eviction not in ("", "noeviction")


def read(info: bytes) -> ServerInfo:
    lines = info.decode("utf-8", "replace").splitlines()
    rows = {name: value for name, _, value in (line.partition(":") for line in lines)}
    kind = "valkey" if "valkey_version" in rows else "redis"
    version = rows.get(f"{kind}_version", "")
    names = ("run_id", "maxmemory_policy", "role", "master_replid")
    return ServerInfo(kind, version, *(rows.get(name, "") for name in names))


def check(info: ServerInfo, where: str) -> None:
    """Raise ServerTooOld where the server lacks what the scripts need."""
    numbers = tuple(int(part) for part in info.version.split(".")[:3] if part.isdigit())
    oldest = OLDEST_VALKEY if info.kind == "valkey" else OLDEST_REDIS
    if numbers and numbers < oldest:
        raise ServerTooOld(
            f"{where} runs {info.kind} {info.version}; streamq needs Redis 7.0 or Valkey 7.2, or newer"
        )


def warn_of_eviction(servers: Iterable[tuple[str, ServerInfo]], log: Any) -> None:
    """Say loudly which servers may drop tasks."""
    for where, info in servers:
        if info.evicts:
            log.error(
                "server.evicts",
                server=where,
                policy=info.eviction,
                fix="tasks WILL BE LOST: set maxmemory-policy to noeviction on the server",
            )
