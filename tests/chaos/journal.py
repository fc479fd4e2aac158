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
    when; `lost`: how many deliveries the task had lost by then. Times are the server's, in ms."""

    id: str
    stream: str
    ready: int
    lost: int = 0
    held: list[tuple[int, str]] = field(default_factory=list)

    @property
    def place(self) -> str:
        return self.stream[0] + self.id


Life = list[Entry]
"""The entries of one task, in the order of their ids."""


def lives(folders: Iterable[Path]) -> dict[str, Life]:
    """The life of every task, by its id, from all append-only files in these folders. What two servers
    wrote down of one entry, a primary and its replica, counts once."""
    entries: dict[tuple[str, str], Entry] = {}
    tasks: dict[tuple[str, str], str] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.incr.aof")):
        for words in commands(path.read_bytes()):
            _take(words, entries, tasks)
    found: dict[str, Life] = defaultdict(list)
    for key, entry in entries.items():
        entry.held = sorted(set(entry.held))
        found[tasks[key]].append(entry)
    for life in found.values():
        life.sort(key=lambda entry: _order(entry.id))
    return dict(found)


def _order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def _take(
    words: list[bytes], entries: dict[tuple[str, str], Entry], tasks: dict[tuple[str, str], str]
) -> None:
    """XADD makes an entry, XCLAIM is what a delivery and a renewal are written down as."""
    name = words[0].upper()
    if name not in (b"XADD", b"XCLAIM"):
        return
    prefix, _, stream = words[1].decode().rpartition(":")
    if stream not in STREAMS:
        return
    if name == b"XADD":
        about = dict(zip(words[3::2], words[4::2], strict=True))
        key, id_ = (words[1].decode(), words[2].decode()), words[2].decode()
        entry = entries.setdefault(key, Entry(id_, stream, _order(id_)[0], int(about.get(b"l", 0))))
        local = about[b"i"].decode() if b"i" in about else entry.place
        tasks[key] = f"{_line(prefix)}:{local}"
    elif (held := entries.get((words[1].decode(), words[5].decode()))) and b"TIME" in words:
        held.held.append((int(words[words.index(b"TIME") + 1]), words[3].decode()))


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
