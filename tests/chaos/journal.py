"""Where each task was and who held it, as the servers' append-only files tell: they have every write. Pure.

Owns the reading of those files. Judges nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FOLDER: Final = "appendonlydir"
CONFIG: Final = {"appendonly": "yes", "auto-aof-rewrite-percentage": "0"}
"""What a server must be told so that its file keeps all: a rewrite would leave the result only."""
STREAMS: Final = ("high", "normal", "low", "suspect")


@dataclass
class Entry:
    """A stream entry of a task. `ready`: when it was appended; `held`: who was given it or renewed it, and
    when; `lost`, `failed`: how many deliveries the task had lost, and how many attempts had failed, by then;
    `gone`: when it was deleted, or up to the next write of which the time is known (the last one, if the file
    ends before another); None while it is there.
    Times are the server's, in ms."""

    id: str
    stream: str
    ready: int
    lost: int = 0
    failed: int = 0
    held: list[tuple[int, str]] = field(default_factory=list)
    gone: int | None = None

    @property
    def place(self) -> str:
        return self.stream[0] + self.id


Life = list[Entry]
"""The entries of one task, in the order of their ids."""


def lives(folders: Iterable[Path]) -> dict[str, Life]:
    """The life of every task, by its id, from all append-only files in these folders. What two servers
    wrote down of one entry, a primary and its replica, counts once."""
    reading = _Reading()
    for path in sorted(path for folder in folders for path in folder.rglob("*.incr.aof")):
        reading.file(path.read_bytes())
    return reading.lives()


def _order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


_Key = tuple[str, str]
"""A stream and the id of an entry."""


class _Reading:
    """What the files tell, one after the other. What a script wrote, from MULTI to EXEC, was one moment."""

    def __init__(self) -> None:
        self._together = False
        self._within: int | None = None
        """The time of this transaction, from the first write that tells it."""
        self._entries: dict[_Key, Entry] = {}
        self._tasks: dict[_Key, str] = {}
        self._gone: dict[_Key, int] = {}
        self._leaving: list[_Key] = []
        self._at_the_end: dict[_Key, int] = {}
        self._last = 0

    def file(self, data: bytes) -> None:
        self._leaving, self._last = [], 0
        for words in commands(data):
            name = words[0].upper()
            if name in (b"MULTI", b"EXEC"):
                self._together, self._within = name == b"MULTI", None
            elif name in (b"XADD", b"XCLAIM", b"XDEL"):
                prefix, _, stream = words[1].decode().rpartition(":")
                if stream in STREAMS:
                    {b"XADD": self._added, b"XCLAIM": self._held, b"XDEL": self._deleted}[name](
                        words, prefix, stream
                    )
        # What its server deleted last, before it died; another's file may say it better.
        if self._last:
            self._at_the_end |= dict.fromkeys(self._leaving, self._last)

    def lives(self) -> dict[str, Life]:
        found: dict[str, Life] = defaultdict(list)
        for key, entry in self._entries.items():
            entry.held = sorted(set(entry.held))
            entry.gone = self._gone.get(key, self._at_the_end.get(key))
            found[self._tasks[key]].append(entry)
        for life in found.values():
            life.sort(key=lambda entry: _order(entry.id))
        return dict(found)

    def _added(self, words: list[bytes], prefix: str, stream: str) -> None:
        about = dict(zip(words[3::2], words[4::2], strict=True))
        key, id_ = (words[1].decode(), words[2].decode()), words[2].decode()
        ready, lost, failed = _order(id_)[0], int(about.get(b"l", 0)), int(about.get(b"a", 0))
        self._now(ready)
        entry = self._entries.setdefault(key, Entry(id_, stream, ready, lost, failed))
        local = about[b"i"].decode() if b"i" in about else entry.place
        self._tasks[key] = f"{_line(prefix)}:{local}"

    def _held(self, words: list[bytes], prefix: str, stream: str) -> None:
        """What a delivery and a renewal are written down as."""
        if b"TIME" not in words:
            return
        at = int(words[words.index(b"TIME") + 1])
        self._now(at)
        if held := self._entries.get((words[1].decode(), words[5].decode())):
            held.held.append((at, words[3].decode()))

    def _deleted(self, words: list[bytes], prefix: str, stream: str) -> None:
        """Without its time: that is known with the next write that tells its own."""
        self._leaving += [(words[1].decode(), entry.decode()) for entry in words[2:]]
        if self._within is not None:
            self._now(self._within)

    def _now(self, at: int) -> None:
        if self._together:
            at = self._within = at if self._within is None else self._within
        self._last = max(self._last, at)
        for key in self._leaving:
            self._gone[key] = min(at, self._gone.get(key, at))
        self._leaving = []


def _line(prefix: str) -> str:
    """`type:shard` of `streamq:{app:shard}:type`."""
    tag, _, task_type = prefix.partition("}:")
    return f"{task_type}:{tag.rpartition(':')[2]}"


def commands(data: bytes) -> Iterator[list[bytes]]:
    """The commands of an append-only file. One that was torn by the server's death is left out."""
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        head, at = data[at:end], end + 2
        if head.startswith(b"*"):  # else a timestamp
            words, at = _words(data, at, int(head[1:]))
            if at > len(data):
                return
            yield words


def _words(data: bytes, at: int, number: int) -> tuple[list[bytes], int]:
    """So many words from here, and where they end: beyond the data where they were torn."""
    words: list[bytes] = []
    for _ in range(number):
        end = data.find(b"\r\n", at)
        if end < 0:
            return words, len(data) + 1
        size = int(data[at + 1 : end])
        words.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return words, at
