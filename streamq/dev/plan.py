"""What a session is to do: one value, which the parts are told too."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Plan:
    """app: `module:attribute`. url: the server. name and prefix: the app's, '' and None before its code
    has told them.
    port: of the dashboard."""

    app: str
    url: str
    name: str = ""
    prefix: str | None = None
    concurrency: int = 10
    drain_timeout: float = 2.0
    log_level: str = "info"
    port: int = 0
    imports: tuple[str, ...] = ()

    def text(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def parse(cls, text: str) -> Plan:
        return cls(**orjson.loads(text))


MARK = "\x1e"
"""A line of a part that begins with it is not for people: JSON for the session."""
