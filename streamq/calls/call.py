"""Define Call, and what its builders share.

Owns the form of a call. Must not run one: `transport` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from streamq import scripts
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.task import LETTER, PRIORITIES, STREAM_LETTERS, Priority
from streamq.options.task import TaskOptions
from streamq.stored import moment, number, text

__all__ = [
    "DEFAULTS",
    "DEFAULT_LEASE_MS",
    "FLOW_LIFE_MS",
    "PRIORITY_OF",
    "SILENT_MS",
    "WRITER_MEMORY_MS",
    "AnyCall",
    "Arg",
    "Call",
    "R",
    "Reply",
    "all_streams",
    "build",
    "moment",
    "number",
    "pairs",
    "text",
]  # fmt: skip

R = TypeVar("R")
_new: Final = tuple.__new__  # the class's own __new__ fills in defaults, which costs as much as all the rest
Arg = bytes | str | int
Reply = Any
"""A raw RESP2 reply: None, an int, bytes, or a list of replies. Only a call's `parse` reads one."""

WRITER_MEMORY_MS: Final = 3_600_000
"""How long a writer's last call is remembered without another; a resend comes within seconds."""

FLOW_LIFE_MS: Final = 90 * 86_400_000
"""How long the keys of a flow that runs live from the last time a daemon looked after it, which it does each
day."""

SILENT_MS: Final = 600_000
"""Ms after which a worker or daemon that sends no heartbeat is no longer listed."""

DEFAULTS: Final = TaskOptions()
DEFAULT_LEASE_MS: Final = round(DEFAULTS.lease * 1000)
PRIORITY_OF: Final[dict[str, Priority]] = {LETTER[name]: name for name in PRIORITIES}


_WRITES: Final = frozenset(
    ("DEL", "HDEL", "HSET", "SET", "XACK", "XADD", "XDEL", "XGROUP", "XREADGROUP", "ZADD", "ZREM", "PUBLISH")
)
_HARMLESS: Final = frozenset((
    "announce", "flow_advance", "flow_build", "flow_commit", "flow_grow", "flow_keep", "flow_release",
    "flow_renew", "flow_start", "flow_step", "listen", "open_shard", "register", "wait",
))  # fmt: skip
"""Scripts that only announce something, or that change nothing the second time: running one twice does no
harm."""


class Call(NamedTuple, Generic[R]):
    """A request to the server: a script, or the command in `args` if `script` is None.

    All keys share one hash tag, so `keys[0]` determines the slot. `parse` reads the raw RESP2 reply.
    `confirm` is a command that is sent on the same connection in the same write, after the script; `parse`
    then gets both replies, the second of which may be the error that the command failed with.
    """

    script: scripts.Script | None
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    parse: Callable[[Reply], R]
    confirm: tuple[Arg, ...] | None = None

    @property
    def is_safe(self) -> bool:
        """Return whether running the call twice, or not at all, does no harm: it changes nothing, or only
        what is announced."""
        if self.script is None:
            return self.args[0] not in _WRITES
        return self.script.reads or self.script.name in _HARMLESS


AnyCall: TypeAlias = Call[Any]
"""A call whose kind of answer does not matter."""


def build(
    name: str,
    args: Sequence[Arg],
    parse: Callable[[Reply], R],
    t: TypeKeys | None = None,
    s: ShardKeys | None = None,
    **given: Any,
) -> Call[R]:
    """Build the call of a script, whose header names the keys it takes: see `scripts.Script.keys_of`."""
    script = scripts.load(name)
    keys = script.keys_of(t, s, **given)
    script.check(keys, args)
    return _new(Call, (script, keys, tuple(args), parse, None))


def all_streams(t: TypeKeys) -> list[tuple[str, str]]:
    """Return (letter, stream) for each of a type's streams."""
    return list(zip(STREAM_LETTERS, t.streams, strict=True))


def pairs(flat: list[Reply]) -> Iterable[tuple[Reply, Reply]]:
    return zip(flat[::2], flat[1::2], strict=True)
