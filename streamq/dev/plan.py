"""What a session is to do: one value, which the parts are told too.

The parts find it in their arguments, which everybody on the host can read: so the server's URL, which may
have a password, is in their environment.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field

import orjson

from streamq import environment


@dataclass(frozen=True, slots=True)
class Plan:
    """app: `module:attribute`. url: the server. name and prefix: the app's, '' and None before its code
    has told them. port: of the dashboard. mark: begins the lines of a part that are JSON for the session;
    what a task prints cannot begin with it by chance or intent."""

    app: str
    url: str
    name: str = ""
    prefix: str | None = None
    concurrency: int = 10
    drain_timeout: float = 2.0
    log_level: str = "info"
    port: int = 0
    imports: tuple[str, ...] = ()
    mark: str = field(default_factory=lambda: f"\x1e{secrets.token_hex(8)} ")

    def text(self) -> str:
        return orjson.dumps({**asdict(self), "url": ""}).decode()

    @classmethod
    def parse(cls, text: str) -> Plan:
        return cls(**orjson.loads(text) | {"url": environment.URL.get()})
