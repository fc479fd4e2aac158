"""The variables of the environment that streamq reads, in one table: `streamq config show` lists it.

Owns their names and what counts where they are not set. Reads nothing else, and imports nothing of streamq.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal

Source = Literal["option", "code", "environment", "default"]
"""Where a value comes from."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: `usual` is what counts where it is not set; '' is nothing. secret: never shown."""

    name: str
    about: str
    usual: str = ""
    secret: bool = False

    def given(self) -> str | None:
        """Its value; None where it is not set. Set to nothing is not set."""
        return os.environ.get(self.name) or None

    def get(self) -> str:
        """Its value, else what counts without it."""
        return self.given() or self.usual

    def source(self) -> Source:
        """Where `get` has it from."""
        return "environment" if self.given() else "default"


URL: Final = Variable("STREAMQ_URL", "the server", "redis://localhost:6379/0")
PREFIX: Final = Variable("STREAMQ_PREFIX", "what the names of all keys and channels begin with", "streamq:")
APP: Final = Variable("STREAMQ_APP", "the app that commands are about; else the only one on the server")
ENV: Final = Variable("STREAMQ_ENV", "`dev` lets worker and daemon run on an embedded server")
TRACING: Final = Variable("STREAMQ_TRACING", "spans of OpenTelemetry: link or child; else none")
METRICS_PORT: Final = Variable("STREAMQ_METRICS_PORT", "where worker and daemon answer scrapers and probes")
METRICS_HOST: Final = Variable("STREAMQ_METRICS_HOST", "on which address they do", "127.0.0.1")
METRICS_NAMES: Final = Variable("STREAMQ_METRICS_NAMES", "host names that they may be asked for by there")
DRAIN_TOKEN: Final = Variable(
    "STREAMQ_DRAIN_TOKEN", "the token for POST /drain over the network", secret=True
)
HEALTH_SOCKET: Final = Variable("STREAMQ_HEALTH_SOCKET", "a unix socket on which they do too")
DEMO_LEDGER: Final = Variable("STREAMQ_DEMO_LEDGER", "the folder that the demo's handlers write to")
BENCH_APP: Final = Variable("STREAMQ_BENCH_APP", "set by `streamq bench`: its workers' app", "streamq-bench")
BENCH_RECORD: Final = Variable("STREAMQ_BENCH_RECORD", "set by `streamq bench`: where its workers note")

VARIABLES: Final = (
    URL, PREFIX, APP, ENV, TRACING, METRICS_PORT, METRICS_HOST, METRICS_NAMES, DRAIN_TOKEN, HEALTH_SOCKET,
    DEMO_LEDGER, BENCH_APP, BENCH_RECORD,
)  # fmt: skip
