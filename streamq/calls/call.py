"""What a Call is, and what its builders share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from streamq import scripts
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.task import LETTER, PRIORITIES, STREAM_LETTERS, Priority
from streamq.options.task import TaskOptions
from streamq.stored import moment, number, text

__all__ = [
    "DEFAULTS", "DEFAULT_LEASE_MS", "PRIORITY_OF", "SILENT_MS", "WRITER_MEMORY_MS", "Arg", "Call", "R",
    "all_streams", "build", "moment", "number", "pairs", "text",
]  # fmt: skip

R = TypeVar("R")
_new: Final = tuple.__new__  # the class's own fills in defaults, which costs as much as all the rest
Arg = bytes | str | int

WRITER_MEMORY_MS: Final = 3_600_000
"""How long a silent writer's last call is remembered; a resend comes within seconds."""

SILENT_MS: Final = 600_000
"""Ms after which a worker or daemon that sends no heartbeat is no longer listed."""

DEFAULTS: Final = TaskOptions()
DEFAULT_LEASE_MS: Final = round(DEFAULTS.lease * 1000)
PRIORITY_OF: Final[dict[str, Priority]] = {LETTER[name]: name for name in PRIORITIES}


_WRITES: Final = frozenset(
    ("DEL", "HDEL", "HSET", "SET", "XACK", "XADD", "XDEL", "XGROUP", "XREADGROUP", "ZADD", "ZREM", "PUBLISH")
)
_HARMLESS: Final = frozenset(("announce", "listen", "open_shard", "register", "wait"))
"""Scripts that make something known: doing so twice, or not at all, is no harm."""


class Call(NamedTuple, Generic[R]):
    """Something to ask the server: a script, or where `script` is None the command in `args`.

    All keys share one hash tag, so `keys[0]` tells the slot. `parse` reads the raw RESP2 reply. `confirm`
    is a command that goes out on the same connection in the same write, after the script; `parse` is then
    given both replies, of which the second may be the error it was answered with.
    """

    script: scripts.Script | None
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    parse: Callable[[Any], R]
    confirm: tuple[Arg, ...] | None = None

    @property
    def asks(self) -> bool:
        """Whether nobody need know if it was carried out: it changes nothing, or only who is told what."""
        if self.script is None:
            return self.args[0] not in _WRITES
        return self.script.reads or self.script.name in _HARMLESS


def build(
    name: str,
    args: Sequence[Arg],
    parse: Callable[[Any], R],
    t: TypeKeys | None = None,
    s: ShardKeys | None = None,
    **given: Any,
) -> Call[R]:
    """A call of a script, whose header says which keys it takes: see `scripts.Script.keys_of`."""
    script = scripts.load(name)
    keys = script.keys_of(t, s, **given)
    script.check(keys, args)
    return _new(Call, (script, keys, tuple(args), parse, None))


def all_streams(t: TypeKeys) -> list[tuple[str, str]]:
    """(letter, stream) of a type's streams."""
    return list(zip(STREAM_LETTERS, t.streams, strict=True))


def pairs(flat: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
