"""The namespace of an app's keys: a prefix and a database, and the names that belong to no single app.

Owns the prefix and its syntax. An app's name carries its namespace, so that all code with the name builds the
right keys. Does no I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from streamq import environment
from streamq.errors import InvalidOption
from streamq.payloads.ring import Ring, ring_of

if TYPE_CHECKING:
    from streamq.payloads.blob_store import Blobs

DEFAULT_PREFIX: Final = environment.PREFIX.default
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")


class Namespace(NamedTuple):
    """The prefix of the names of keys, and the database of the server.

    Redis delivers messages of a channel to the clients of all its databases, so the names of channels contain
    the database. Those of database 0 do not, as in earlier releases.
    """

    prefix: str = DEFAULT_PREFIX
    database: int = 0

    def app(self, name: str) -> AppName:
        """Return the name of an app in this namespace."""
        return AppName(name, self, ring_of(name), _blobs_of(name))

    @property
    def apps(self) -> str:
        """Hash: app name -> JSON, by which daemons and commands find the apps; no task depends on it."""
        return f"{self.prefix}apps"

    @property
    def news(self) -> str:
        """Channel: `apps` has a new app, or more shards of one."""
        return f"{self.prefix}apps{self.channels_end}"

    @property
    def daemons(self) -> str:
        """Sorted set: the last heartbeat of each daemon; daemons belong to no app."""
        return f"{self.prefix}{{daemons}}:daemons"

    @property
    def daemon_heartbeats(self) -> str:
        """Hash: the details of the daemons' heartbeats."""
        return f"{self.prefix}{{daemons}}:heartbeats"

    @property
    def channels_end(self) -> str:
        """The end of the names of channels."""
        return f":db{self.database}" if self.database else ""

    @property
    def rights(self) -> tuple[str, str]:
        """The ACL rules for all keys and all channels of the namespace."""
        return f"~{self.prefix}*", f"&{self.prefix}*"


DEFAULT_NAMESPACE: Final = Namespace()


class AppName(str):
    """An app's name that carries its namespace, its key ring and its blobs. Pass it on unchanged: a plain str
    means the default namespace, and neither ring nor blobs."""

    __slots__ = ("blobs", "namespace", "ring")
    namespace: Namespace
    ring: Ring | None
    blobs: Blobs | None

    def __new__(
        cls,
        name: str,
        namespace: Namespace = DEFAULT_NAMESPACE,
        ring: Ring | None = None,
        blobs: Blobs | None = None,
    ) -> AppName:
        made = super().__new__(cls, name)
        made.namespace, made.ring, made.blobs = namespace, ring, blobs
        return made

    def __reduce__(self) -> tuple[object, ...]:
        # Without the ring and the blobs: keys do not leave the process.
        return AppName, (str(self), self.namespace)

    def __str__(self) -> str:
        return str.__str__(self)


def namespace_of(app: str) -> Namespace:
    """Return the namespace of an app."""
    found: Namespace = getattr(app, "namespace", DEFAULT_NAMESPACE)
    return found


def _blobs_of(app: str) -> Blobs | None:
    found: Blobs | None = getattr(app, "blobs", None)
    return found


def with_ring(app: str, ring: Ring | None) -> AppName:
    """Return the name of an app with this key ring, or with none."""
    return AppName(app, namespace_of(app), ring, _blobs_of(app))


def with_blobs(app: str, blobs: Blobs | None) -> AppName:
    """Return the name of an app with these blobs, or with none."""
    return AppName(app, namespace_of(app), ring_of(app), blobs)


def check_prefix(prefix: str) -> str:
    """Return the prefix. Raises InvalidOption if it does not work in keys, channels and ACL rules."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):  # type: ignore[redundant-expr]
        raise InvalidOption(
            f"{prefix!r:.120} is not a valid prefix for keys: use letters, digits, _ - . : / (1 to 100). "
            "Braces would move keys to other slots, and * ? [ ] are wildcards in ACL rules"
        )
    return prefix
