"""The key ring of an app as the rest of streamq meets it: carried by the app's name, and mostly absent.

Owns that look-up. Must stay light: every producer loads it, while `keyring` is loaded with the first ring.
"""

from __future__ import annotations

from typing import Final, Protocol

SALT: Final = 16
"""Bytes of the salt of a process's subkey."""


class Cipher(Protocol):
    """AES-256-GCM under one subkey."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class Ring(Protocol):
    """What is asked of a key ring: see `KeyRing`."""

    current: str

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def index_key(self) -> bytes: ...
    def sealer(self) -> tuple[bytes, Cipher, int]: ...
    def cipher(self, name: str, salt: bytes) -> Cipher: ...


def ring_of(app: str) -> Ring | None:
    """Return the key ring that an app's name carries; None if it has none."""
    found: Ring | None = getattr(app, "ring", None)
    return found


def index_key(app: str) -> bytes:
    """Return the key of an app's digests; empty without a ring."""
    ring = ring_of(app)
    return b"" if ring is None else ring.index_key
