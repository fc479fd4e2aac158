"""Stages between the JSON of a payload and what is stored: each seals bytes, and opens what it has sealed.

Owns the form of what is sealed, which names the stages it went through, so that payloads, results and
failures tell by themselves how to open them. Without a stage the JSON is stored as it is, and nothing here is
called.

    0x1f  marks, in the order of sealing, with commas  0x1f  length of the rest: 4 bytes, little-endian  rest

JSON never contains the first byte. A stage is known to a process by its mark (`KNOWN`), whoever wrote with
it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

from streamq.errors import DecodeError

SEALED: Final = b"\x1f"
"""What sealed bytes begin with."""
_HEAD: Final = re.compile(
    rb"\x1f([a-z0-9_.-]{1,30}(?:,[a-z0-9_.-]{1,30}){0,7})\x1f([\x00-\xff]{4})", re.DOTALL
)


class Stage(Protocol):
    """A way to store bytes otherwise. `mark`: 1 to 30 of a-z, 0-9, _ - . that no other stage has."""

    mark: str

    def seal(self, raw: bytes) -> bytes:
        """Return what is stored."""
        ...

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed. Raises ValueError if it is damaged, or not ours to read."""
        ...


class UnknownEncoding(DecodeError):
    """What is stored went through a stage that this process does not know."""


KNOWN: Final[dict[str, Stage]] = {}
"""The stages that this process can open, by their marks."""


class Pipeline:
    """What an app's programs put everything through that they store, one stage after the other."""

    def __init__(self, *stages: Stage) -> None:
        self._stages = stages
        self._marks = ",".join(stage.mark for stage in stages).encode()

    def seal(self, raw: bytes) -> bytes:
        """Return what is stored."""
        for stage in self._stages:
            raw = stage.seal(raw)
        return b"%b%b%b%b%b" % (SEALED, self._marks, SEALED, len(raw).to_bytes(4, "little"), raw)


class _Sealed(NamedTuple):
    marks: list[str]
    begins: int
    ends: int


def _sealed(stored: bytes) -> _Sealed | None:
    """What the head says; None if nothing was sealed."""
    head = _HEAD.match(stored) if stored[:1] == SEALED else None
    if head is None:
        return None
    return _Sealed(head[1].decode().split(","), head.end(), head.end() + int.from_bytes(head[2], "little"))


def sealed_length(stored: bytes) -> int:
    """Return how many bytes are sealed at the beginning, head included; 0 if nothing was sealed."""
    found = _sealed(stored)
    return 0 if found is None else found.ends


def pipeline_of(stored: bytes) -> Pipeline | None:
    """Return the stages that something went through, to put something else in its place; None without any.
    Raises UnknownEncoding."""
    found = _sealed(stored)
    return None if found is None else Pipeline(*(_stage(mark) for mark in found.marks))


def opened(stored: bytes) -> bytes:
    """Return the JSON of what is stored. Raises UnknownEncoding, and DecodeError if it is damaged or cut."""
    if stored[:1] != SEALED:
        return stored
    found = _sealed(stored)
    if found is None:
        return stored
    raw, stages = stored[found.begins : found.ends], [_stage(mark) for mark in found.marks]
    if len(stored) < found.ends:
        raise DecodeError(f"it is encoded ({', '.join(found.marks)}) and too long to be shown here")
    for stage in reversed(stages):
        try:
            raw = stage.open(raw)
        except Exception as error:  # noqa: BLE001 - whatever a stage meets: what is stored is input
            raise DecodeError(f"it cannot be decoded ({stage.mark}): {error}", reason="encoding") from None
    return raw


def _stage(mark: str) -> Stage:
    try:
        return KNOWN[mark]
    except KeyError:
        raise UnknownEncoding(
            f"encoded in a way that this release does not know: mark {mark!r}", reason="encoding"
        ) from None
