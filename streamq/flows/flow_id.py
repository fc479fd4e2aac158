"""The identity of a flow, and that of a node's task, which follows from it.

Owns their forms. Asks no server.
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from streamq.errors import UnknownFlow
from streamq.model.task import NAME_PATTERN

_NODE: Final = re.compile(r"[a-z](\d{1,15})-10(\d{12})(\d{6})")
LOCAL: Final = re.compile(r"\d{1,15}-\d{12}")


class FlowId(NamedTuple):
    """A flow's identity, written `name:shard:local`, such as `import:0:1764547200000-402938475610`.

    `local` is the time at which it was built, in ms, and 12 random digits.
    """

    name: str
    shard: int
    local: str

    def __str__(self) -> str:
        return f"{self.name}:{self.shard}:{self.local}"

    @classmethod
    def parse(cls, text: str) -> FlowId:
        """Return the id that `str()` wrote. Raises UnknownFlow for anything else."""
        parts = text.split(":") if isinstance(text, str) else []  # type: ignore[redundant-expr]
        if len(parts) == 3 and NAME_PATTERN.fullmatch(parts[0]) and LOCAL.fullmatch(parts[2]):
            shard = parts[1]
            if shard.isascii() and shard.isdigit() and len(shard) <= 4:
                return cls(parts[0], int(shard), parts[2])
        raise UnknownFlow(
            f"{str(text)[:120]!r} is not the id of a flow; one looks like "
            "'import:0:1764547200000-402938475610'"
        )


def new_local(now_ms: int) -> str:
    """Return the local id of a new flow."""
    return f"{now_ms}-{secrets.randbelow(10**12):012d}"


def node_of(task: str) -> tuple[str, int] | None:
    """Return the local id of the flow that a task is a node of, and the node's number, from the task's local
    id; None if that is the id of no node."""
    found = _NODE.fullmatch(task)
    return None if found is None else (f"{found[1]}-{found[2]}", int(found[3]))


def task_of(flow: str, letter: str, node: int) -> str:
    """Return the local id of a node's task. flow: the flow's local id. letter: of the node's priority.

    Its number is beyond those that the server gives to entries, and those of follow-ups.
    """
    stamp, _, random = flow.partition("-")
    return f"{letter}{stamp}-10{random}{node:06d}"
