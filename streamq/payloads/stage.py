"""What a stage of the stored form is, and what a stored text is about.

Owns the interface of stages and their errors. Knows no stage.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

from streamq.errors import DecodeError

Purpose = Literal["payload", "result", "failure", "memo", "event", "signal"]
MOST: Final = 8 * 1024 * 1024
"""Bytes that stored bytes may decompress to, where no task type says more."""
MOST_OF_RESULT: Final = 64 * 1024 * 1024
"""The same for a result, of which a reader does not know the limit of its type."""


class About(NamedTuple):
    """What stored bytes are: a seal holds for these only. app: the app's name, which carries its key ring.
    id: of the task, where the bytes belong to one task alone; a payload does not, as its id is given by the
    server when it is stored. most: bytes that they may decompress to."""

    app: str
    type: str
    purpose: Purpose
    id: str = ""
    most: int = MOST


class Stage(Protocol):
    """A transformation of stored bytes. mark: 1 to 30 of a-z, 0-9, _ - . that no other stage has."""

    mark: str

    def seal(self, raw: bytes, about: About) -> bytes | None:
        """Return the bytes to store; None to leave them as they are."""
        ...

    def open(self, sealed: bytes, about: About | None) -> bytes:
        """Return the bytes that were sealed. about: None where nobody may look behind a seal. Raises
        ValueError if they are damaged, and DecodeError if they cannot be read here."""
        ...


class UnknownEncoding(DecodeError):
    """Stored bytes went through a stage that this process does not have. mark: of the stage."""

    def __init__(self, message: str, mark: str) -> None:
        super().__init__(message, reason="encoding")
        self.mark = mark

    def __reduce__(self) -> tuple[type[UnknownEncoding], tuple[str, str]]:
        return UnknownEncoding, (str(self), self.mark)


class NewerMemo(DecodeError):
    """A memo was stored by code of a newer version, and does not fit this one. version: of that code."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message, reason="version")
        self.version = version

    def __reduce__(self) -> tuple[type[NewerMemo], tuple[str, int]]:
        return NewerMemo, (str(self), self.version)


class NoKey(DecodeError):
    """Stored bytes are sealed with a key that this process does not have. key: its id."""

    def __init__(self, key: str) -> None:
        super().__init__(f"sealed with key {key!r}, which is not given here", reason="key")
        self.key = key

    def __reduce__(self) -> tuple[type[NoKey], tuple[str]]:
        return NoKey, (self.key,)


Elsewhere = NoKey | UnknownEncoding | NewerMemo
"""What this process cannot read, and another one can."""
