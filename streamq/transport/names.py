"""Looks up the names of servers, and waits for the answer no longer than there is time.

Owns the threads that ask: the system's own lookup takes no time limit. Where nobody waits any more it goes on
by itself, one for each name at most. Addresses need none, and cost nothing here.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import Final

from redis import exceptions as lib

SLOW: Final = "the lookup of its name takes too long"


class _Lookup:
    """One question to the system. `places`: the addresses that it answered."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.places: list[str] = []
        self.error: OSError | None = None
        self.done = threading.Event()

    def ask(self) -> None:
        try:
            found = socket.getaddrinfo(self._name, None, type=socket.SOCK_STREAM)
            self.places = list(dict.fromkeys(str(place[0]) for *_, place in found))
        except OSError as error:
            self.error = error
        except ValueError as error:  # a name that IDNA cannot spell
            self.error = OSError(str(error))
        finally:
            if _under_way.get(self._name) is self:
                del _under_way[self._name]
            self.done.set()


_under_way: dict[str, _Lookup] = {}
_lock = threading.Lock()


def is_address(host: str) -> bool:
    """Whether this is an IP address, and no name."""
    return ":" in host or host.replace(".", "").isdigit()


def looked_up(name: str, seconds: float) -> list[str]:
    """The addresses of a name. Raises OSError where it has none, and the client library's TimeoutError where
    the answer takes longer than so many seconds."""
    with _lock:
        lookup = _under_way.get(name)
        if lookup is None:
            lookup = _under_way[name] = _Lookup(name)
            _begin(lookup)
    if not lookup.done.wait(seconds):
        raise lib.TimeoutError(SLOW)
    if lookup.error is not None:
        raise lookup.error
    return lookup.places


def _begin(lookup: _Lookup) -> None:
    try:
        threading.Thread(target=lookup.ask, name="streamq-lookup", daemon=True).start()
    except RuntimeError:  # the program is at its end and starts no threads
        lookup.ask()


def _forget() -> None:
    """After a fork the threads are the parent's."""
    global _under_way, _lock
    _under_way, _lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget)
