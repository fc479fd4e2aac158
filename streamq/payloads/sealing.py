"""The stage that seals: AES-256-GCM under a subkey of each process start.

Owns the format of sealed bytes. A seal holds for one app, type and purpose, and for results, memos and events
for one task (see `About`).

    length of the key's id: 1 byte  id  salt: 16 bytes  nonce: 8 bytes  ciphertext  tag: 16 bytes

The subkey is HKDF-SHA256 of key and salt; the nonces of a salt are 0, 1, 2, ... Random nonces under one key
would exhaust it after 2^32 messages.
"""

from __future__ import annotations

from streamq.errors import DecodeError, UsageError
from streamq.payloads.ring import SALT, ring_of
from streamq.payloads.stage import About, NoKey

_FIXED = 1 + SALT + 8 + 16
MARK = "aesgcm"


class Sealing:
    """Seals with the ring that the app's name carries."""

    mark: str = MARK

    def seal(self, raw: bytes, about: About) -> bytes | None:
        """Return the bytes sealed with the current key. Raises UsageError where there is no ring."""
        ring = ring_of(about.app)
        if ring is None:
            raise UsageError(
                f"{about.purpose} of {about.type!r}: it is sealed, and this program has no key ring"
            )
        salt, cipher, number = ring.sealer()
        name, nonce = ring.current.encode(), number.to_bytes(8, "little")
        sealed = cipher.encrypt(nonce + b"\0\0\0\0", raw, _bound(about))
        return b"%c%b%b%b%b" % (len(name), name, salt, nonce, sealed)

    def open(self, sealed: bytes, about: About | None) -> bytes:
        """Return the bytes. Raises NoKey, ValueError if they are damaged, and DecodeError (reason `tampered`)
        if they are not what was sealed for this."""
        begins = 1 + sealed[0] if sealed else 0
        if len(sealed) < _FIXED + begins - 1:
            raise ValueError("the seal is cut")
        name = key_id(sealed)
        ring = None if about is None else ring_of(about.app)
        if about is None or ring is None or name not in ring.ids:
            raise NoKey(name)
        salt, nonce = sealed[begins : begins + SALT], sealed[begins + SALT : begins + SALT + 8]
        cipher = ring.cipher(name, salt)
        try:
            return cipher.decrypt(nonce + b"\0\0\0\0", sealed[begins + SALT + 8 :], _bound(about))
        except Exception:  # noqa: BLE001 - the library's InvalidTag, which is imported with the library only
            raise DecodeError(
                f"the seal (key {name!r}) does not hold: it was changed, it belongs to another task, type or "
                "app, or the key is another one under this id. Compare the rings of your programs, then look "
                "for who writes to this server",
                reason="tampered",
            ) from None


def key_id(sealed: bytes) -> str:
    """Return the id of the key of sealed bytes."""
    return sealed[1 : 1 + sealed[0]].decode("ascii", "replace") if sealed else ""


def _bound(about: About) -> bytes:
    """Return what the seal holds for, without ambiguity: only the id of a memo, at the end, has a NUL."""
    return f"{about.app}\0{about.type}\0{about.purpose}\0{about.id}".encode()
