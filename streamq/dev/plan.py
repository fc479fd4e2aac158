"""Define what a session is to do: one value, which the parts get too.

Owns how it is passed on. The parts get it in their arguments, which every user of the host can read, so the
server's URL, which may contain a password, is passed in their environment.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from typing import TypedDict

import orjson

from streamq import environment


class Report(TypedDict):
    """A worker's report to the session: its app, and sample arguments by task type, if there are any."""

    name: str
    prefix: str
    types: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """app: `module:attribute`. url: the server. name and prefix: the app's, '' and None until its code has
    reported them. port: of the dashboard. mark: starts the lines of a part that are JSON for the session; a
    task's output cannot start with it by chance or intent."""

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
