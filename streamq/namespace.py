"""Where the keys of an app are: a prefix and a database, and the names that belong to no single app.

Owns the prefix and what may be one. An app's name carries its namespace with it, so whoever is given the
name makes the right keys. Does no I/O.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from streamq import environment
from streamq.errors import InvalidOption

DEFAULT_PREFIX: Final = environment.PREFIX.usual
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")


class Namespace(NamedTuple):
    """Where the keys of some apps are: the prefix of their names, and the database of the server.

    Redis tells messages of a channel to the clients of all its databases, so the names of channels say
    which database is meant. Those of database 0 do not, as in earlier releases.
    """

    prefix: str = DEFAULT_PREFIX
    database: int = 0

    def app(self, name: str) -> AppName:
        """The name of an app in this namespace."""
        return AppName(name, self)

    @property
    def apps(self) -> str:
        """Hash: app name -> JSON. How a daemon or a command finds the apps; no task depends on it."""
        return f"{self.prefix}apps"

    @property
    def news(self) -> str:
        """Channel: `apps` has another app, or more shards of one."""
        return f"{self.prefix}apps{self.channels_end}"

    @property
    def daemons(self) -> str:
        """As the workers of a shard, for daemons, which belong to no app: last signs of life."""
        return f"{self.prefix}{{daemons}}:daemons"

    @property
    def daemon_heartbeats(self) -> str:
        """What the daemons say of themselves."""
        return f"{self.prefix}{{daemons}}:heartbeats"

    @property
    def channels_end(self) -> str:
        """What the names of channels end with."""
        return f":db{self.database}" if self.database else ""

    @property
    def rights(self) -> tuple[str, str]:
        """The ACL rules for all keys and all channels of the namespace."""
        return f"~{self.prefix}*", f"&{self.prefix}*"


DEFAULT_NAMESPACE: Final = Namespace()


class AppName(str):
    """An app's name that knows its namespace. Pass it on as it is: a plain str is of the default one."""

    __slots__ = ("namespace",)
    namespace: Namespace

    def __new__(cls, name: str, namespace: Namespace = DEFAULT_NAMESPACE) -> AppName:
        made = super().__new__(cls, name)
        made.namespace = namespace
        return made

    def __reduce__(self) -> tuple[object, ...]:
        return AppName, (str(self), self.namespace)

    def __str__(self) -> str:
        return str.__str__(self)


def namespace_of(app: str) -> Namespace:
    """The namespace of an app."""
    found: Namespace = getattr(app, "namespace", DEFAULT_NAMESPACE)
    return found


def check_prefix(prefix: str) -> str:
    """Return the prefix. Raises InvalidOption where it would not do for keys, channels and ACL rules."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):  # type: ignore[redundant-expr]
        raise InvalidOption(
            f"{prefix!r:.120} is no prefix for keys: letters, digits, _ - . : / (1 to 100). "
            "Braces would move keys to other slots, and * ? [ ] are wildcards in ACL rules"
        )
    return prefix
