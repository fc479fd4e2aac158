"""The key ring of an app: the keys that its payloads are sealed with, and the one that digests are made with.

Owns the keys, and the subkey and the nonces of this process. Never shows a key: not in repr, not in an error,
not in a pickle. Must not know what is sealed: `sealing` does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import json
import re
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

from streamq import environment
from streamq.errors import InvalidOption, UsageError
from streamq.forking import after_fork
from streamq.payloads.ring import SALT, Cipher

Key = bytes | str | Callable[[], bytes]
"""32 bytes, the same in base64, or a function that returns them, such as one that asks a KMS: it is called
once, when the key is needed first."""
LENGTH: Final = 32
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SUBKEYS: Final = 512
"""Subkeys of other processes that are kept: each process start has one."""


class KeyRing:
    """The keys of an app. Give all of its programs that enqueue, work or read results the same ring.

    current: the id of the key that new tasks are sealed with. keys: by id: 32 bytes, base64 text of them, or
    a function that returns them (asked once). index: the key of the digests of unique and idempotency keys,
    which must never change; default: the first of `keys`, so pass that key here before you remove it.

    Raises InvalidOption, and UsageError without the extra `crypto`.
    """

    def __init__(self, current: str, keys: Mapping[str, Key], *, index: Key | None = None) -> None:
        if not isinstance(keys, Mapping) or not keys:  # type: ignore[redundant-expr]
            raise InvalidOption("KeyRing: keys must be a mapping from id to key, with at least one")
        for name in keys:
            if not isinstance(name, str) or not _ID.fullmatch(name):  # type: ignore[redundant-expr]
                raise InvalidOption(
                    f"KeyRing: {name!r:.80} is not the id of a key: 1 to 64 letters, digits, . _ -"
                )
        if current not in keys:
            raise InvalidOption(
                f"KeyRing: current={current!r:.80} is not among the keys: {', '.join(map(repr, keys))}"
            )
        self.current: str = current
        self._keys = {name: _given(name, key) for name, key in keys.items()}
        self._index = _given("index", next(iter(keys.values())) if index is None else index)
        self._read: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._own: dict[str, tuple[bytes, Cipher, Iterator[int]]] = {}
        self._ciphers = lru_cache(_SUBKEYS)(self._cipher)
        _cipher_of()
        _RINGS.add(self)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys."""
        return tuple(self._keys)

    def __repr__(self) -> str:
        return f"<KeyRing current={self.current!r} of {', '.join(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing cannot be pickled: a process that needs the keys reads them itself")

    @property
    def index_key(self) -> bytes:
        """The key of digests."""
        return _derived(self._material("index", self._index), b"", b"streamq digests")

    def sealer(self) -> tuple[bytes, Cipher, int]:
        """Return the salt, cipher and next nonce of this process, under the current key. Never the same
        twice: a process has its own salt, and counts."""
        own = self._own.get(self.current)
        if own is None:
            with self._lock:
                own = self._own.get(self.current)
                if own is None:
                    salt = secrets.token_bytes(SALT)
                    own = self._own[self.current] = salt, self._cipher(self.current, salt), itertools.count()
        salt, cipher, nonces = own
        return salt, cipher, next(nonces)

    def cipher(self, name: str, salt: bytes) -> Cipher:
        """Return the cipher of a process that sealed with the key of this id. Raises KeyError."""
        return self._ciphers(name, salt)

    def forget(self) -> None:
        """Forget this process's salts: another process goes on with a copy of this memory."""
        self._lock = threading.Lock()
        self._own = {}

    def _cipher(self, name: str, salt: bytes) -> Cipher:
        key = _derived(self._material(name, self._keys[name]), salt, b"streamq seal")
        found: Cipher = _cipher_of()(key)
        return found

    def _material(self, name: str, key: Callable[[], bytes]) -> bytes:
        found = self._read.get(name)
        if found is None:
            found = self._read[name] = _checked(name, key())
        return found

    @classmethod
    def from_environment(cls) -> KeyRing | None:
        """Return the ring of STREAMQ_KEYS; None if that is not set. Raises InvalidOption."""
        text = environment.KEYS.explicit()
        return None if text is None else cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Return the ring that STREAMQ_KEYS says: JSON as `{"current": "2026-11", "keys": {"2026-11":
        "<base64>"}}`, with `index` where there is one, or the path of a file with that. Raises InvalidOption,
        which repeats no key."""
        raw = text.strip()
        if not raw.startswith("{"):
            try:
                raw = Path(raw).read_text("utf-8")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no path"
                raise InvalidOption(f"the key ring cannot be read: {why}: {_HOW}") from None
        found = _read(raw)
        if found is None:
            raise InvalidOption(f"the key ring is not what it should be: {_HOW}")
        return cls(found["current"], found["keys"], index=found.get("index") or None)


_HOW: Final = (
    'write {"current": "2026-11", "keys": {"2026-11": "<32 bytes in base64>"}}, or the path of a file with '
    "that (`streamq keys new` makes a key)"
)


def _read(raw: str) -> dict[str, Any] | None:
    """Return a ring as JSON data; None if it is not one."""
    try:
        found: Any = json.loads(raw)
    except ValueError:
        return None
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, dict) or not {"current", "keys"} <= found.keys() <= {"current", "keys", "index"}:
        return None
    texts = [found["current"], found.get("index", ""), *keys.values()]
    return found if all(isinstance(one, str) for one in texts) else None


def new_key() -> str:
    """Return a new key, in base64."""
    return base64.b64encode(secrets.token_bytes(LENGTH)).decode()


def _given(name: str, key: Key) -> Callable[[], bytes]:
    if callable(key):
        return key
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidOption(
                f"KeyRing: key {name!r} is not base64 (`streamq keys new` makes one)"
            ) from None
    checked = _checked(name, key)
    return lambda: checked


def _checked(name: str, key: object) -> bytes:
    if not isinstance(key, bytes) or len(key) != LENGTH:
        size = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise InvalidOption(f"KeyRing: key {name!r} must be {LENGTH} bytes, not {size}")
    return key


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    """Return 32 bytes by HKDF-SHA256 (RFC 5869): one block of its output."""
    extracted = hmac.digest(salt or bytes(32), key, hashlib.sha256)
    return hmac.digest(extracted, purpose + b"\x01", hashlib.sha256)


def _cipher_of() -> Callable[[bytes], Cipher]:
    """Return the class of the cipher. Raises UsageError without the extra."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("a KeyRing needs the extra crypto: pip install 'streamq[crypto]'") from None
    return AESGCM


_RINGS: Final[weakref.WeakSet[KeyRing]] = weakref.WeakSet()


def _after_fork() -> None:
    for ring in _RINGS:
        ring.forget()


after_fork(_after_fork)
