"""Resolves the names of servers, and waits for the answer no longer than there is time.

Owns the threads that do so: the system's own resolver takes no time limit. After its callers gave up a lookup
goes on, at most one for each name. Addresses need no lookup and cost nothing here.
"""

from __future__ import annotations

import socket
import threading
from typing import Final

from redis import exceptions as lib

from streamq.forking import after_fork

SLOW: Final = "the lookup of its name takes too long"


class _Lookup:
    """One question to the system's resolver. `addresses`: what it returned."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.addresses: list[str] = []
        self.error: OSError | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(self._name, None, type=socket.SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except OSError as error:
            self.error = error
        except ValueError as error:  # a name that IDNA cannot spell
            self.error = OSError(str(error))
        finally:
            if _in_flight.get(self._name) is self:
                del _in_flight[self._name]
            self.done.set()


_in_flight: dict[str, _Lookup] = {}
_lock = threading.Lock()


def is_address(host: str) -> bool:
    """Return whether this is an IP address, not a name."""
    return ":" in host or host.replace(".", "").isdigit()


def resolve(name: str, seconds: float) -> list[str]:
    """Return the addresses of a name. Raises OSError if it has none, and the client library's TimeoutError if
    the answer takes longer than so many seconds."""
    with _lock:
        lookup = _in_flight.get(name)
        if lookup is None:
            lookup = _in_flight[name] = _Lookup(name)
            _start(lookup)
    if not lookup.done.wait(seconds):
        raise lib.TimeoutError(SLOW)
    if lookup.error is not None:
        raise lookup.error
    return lookup.addresses


def _start(lookup: _Lookup) -> None:
    try:
        threading.Thread(target=lookup.run, name="streamq-lookup", daemon=True).start()
    except RuntimeError:  # the program is ending and starts no threads
        lookup.run()


def _forget() -> None:
    """Start anew after a fork: the threads are the parent's."""
    global _in_flight, _lock
    _in_flight, _lock = {}, threading.Lock()


after_fork(_forget)
