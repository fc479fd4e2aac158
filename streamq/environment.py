"""The environment variables that streamq reads, in one table: `streamq config show` lists it.

Owns their names and defaults. Must not read anything else, nor import anything of streamq.
"""

from __future__ import annotations

import os
from typing import Final, Literal, NamedTuple

Source = Literal["option", "code", "environment", "default"]
"""The origin of a value."""


class Variable(NamedTuple):
    """A variable. default: its value if it is not set; '' for none. secret: its value is never shown."""

    name: str
    about: str
    default: str = ""
    secret: bool = False

    def explicit(self) -> str | None:
        """Return its value; None if it is not set, or empty."""
        return os.environ.get(self.name) or None

    def get(self) -> str:
        """Return its value, or its default."""
        return self.explicit() or self.default

    def source(self) -> Source:
        """Return the origin of the value that `get` returns."""
        return "environment" if self.explicit() else "default"


URL: Final = Variable("STREAMQ_URL", "the server", "redis://localhost:6379/0")
PREFIX: Final = Variable("STREAMQ_PREFIX", "the prefix of all keys and channels", "streamq:")
APP: Final = Variable("STREAMQ_APP", "the app of a command (default: the only one on the server)")
ENV: Final = Variable("STREAMQ_ENV", "`dev` allows workers and daemons to use an embedded server")
KEYS: Final = Variable(
    "STREAMQ_KEYS", "the key ring of sealed payloads: JSON, or the path of a file with it", secret=True
)
BLOBS: Final = Variable(
    "STREAMQ_BLOBS",
    "the store of large arguments and results: file:///path, redis://…, s3://bucket/prefix",
    secret=True,
)
TRACING: Final = Variable("STREAMQ_TRACING", "OpenTelemetry spans: link or child (default: none)")
TRACE_URL: Final = Variable(
    "STREAMQ_TRACE_URL", "where traces are shown, with {trace_id}: the dashboard links to them there"
)
METRICS_PORT: Final = Variable(
    "STREAMQ_METRICS_PORT", "the port for metrics and probes of workers and daemons"
)
METRICS_HOST: Final = Variable("STREAMQ_METRICS_HOST", "the address to listen on for them", "127.0.0.1")
METRICS_NAMES: Final = Variable("STREAMQ_METRICS_NAMES", "the host names accepted in their requests")
DRAIN_TOKEN: Final = Variable(
    "STREAMQ_DRAIN_TOKEN", "the token for POST /drain over the network", secret=True
)
HEALTH_SOCKET: Final = Variable("STREAMQ_HEALTH_SOCKET", "a unix socket to listen on for them too")
DEMO_LEDGER: Final = Variable("STREAMQ_DEMO_LEDGER", "the folder that the demo's handlers write to")
BENCH_APP: Final = Variable(
    "STREAMQ_BENCH_APP", "set by `streamq bench`: the app of its workers", "streamq-bench"
)
BENCH_RECORD: Final = Variable(
    "STREAMQ_BENCH_RECORD", "set by `streamq bench`: the file that its workers write to"
)

VARIABLES: Final = (
    URL, PREFIX, APP, ENV, KEYS, BLOBS, TRACING, TRACE_URL, METRICS_PORT, METRICS_HOST, METRICS_NAMES,
    DRAIN_TOKEN, HEALTH_SOCKET, DEMO_LEDGER, BENCH_APP, BENCH_RECORD,
)  # fmt: skip
