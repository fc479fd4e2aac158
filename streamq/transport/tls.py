"""The TLS contexts of connections: one for all connections with the same settings and files.

Owns their reuse. The client library makes a context for each connection, for which it reads every authority
of the system: some 30 ms of processor time in an event loop, whenever a connection is opened again. A file
that changes, such as a certificate that is renewed, is read by the next connection. Must not open one.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Final

from streamq.transport.address import Address

_REQUIREMENTS: Final = {
    "none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED,
}  # fmt: skip
_Stamp = tuple[int, int, int]


def context(address: Address) -> ssl.SSLContext:
    """Return the context for connections to an address. Raise OSError, or its subclass SSLError, if a file
    cannot be read or is not what it should be."""
    given = address.arguments
    certificate, key, authorities = (
        None if (path := given.get(name)) is None else str(path)
        for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs")
    )
    system = ssl.get_default_verify_paths()
    stamps = tuple(map(_stamp, (certificate, key, authorities, system.cafile, system.capath)))
    return _context(certificate, key, authorities, str(given.get("ssl_cert_reqs", "required")), stamps)


@lru_cache(maxsize=16)
def _context(
    certificate: str | None, key: str | None, authorities: str | None, requirement: str,
    stamps: tuple[_Stamp | None, ...],
) -> ssl.SSLContext:  # fmt: skip
    """Make a context. stamps: differ when a file has changed."""
    del stamps
    made = ssl.create_default_context()
    made.check_hostname = requirement != "none"
    made.verify_mode = _REQUIREMENTS[requirement]
    if certificate or key:
        made.load_cert_chain(certificate or str(key), key)
    if authorities:
        made.load_verify_locations(authorities)
    return made


def _stamp(path: str | None) -> _Stamp | None:
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more, and this is done for each connection
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
