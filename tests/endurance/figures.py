"""What processes and a server use: memory, files, connections, keys. Owns the asking, judges nothing."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import redis

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_KIND: Final = re.compile(r"^streamq:\{[^}]*\}:(?:[^:]+:)?([a-z_]+)")


def process(pid: int) -> dict[str, int]:
    """Resident KB without what is shared with others, open files and threads of a process."""
    statm = Path(f"/proc/{pid}/statm").read_text().split()
    return {
        "rss_kb": (int(statm[1]) - int(statm[2])) * _PAGE // 1024,
        "fds": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        "threads": sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()),
    }


def server(client: redis.Redis) -> dict[str, int]:
    """Bytes in use once freed pages are given back, connections and keys."""
    client.execute_command("MEMORY", "PURGE")  # type: ignore[no-untyped-call]
    memory: Any = client.info("memory")
    clients: Any = client.info("clients")
    return {
        "used_memory": int(memory["used_memory"]) - int(memory.get("mem_clients_normal", 0)),
        "connections": int(clients["connected_clients"]),
        "keys": int(client.dbsize()),
    }


def keys(client: redis.Redis) -> dict[str, dict[str, int]]:
    """How many keys there are of each kind, and the bytes they take."""
    number: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for key in client.scan_iter("*", count=1000):
        match = _KIND.match(key.decode())
        kind = match[1] if match else key.decode()
        number[kind] += 1
        size[kind] += int(client.memory_usage(key, samples=0) or 0)
    return {kind: {"keys": number[kind], "bytes": size[kind]} for kind in sorted(number)}
