"""One builder for each script: arguments in, a Call out; and how to read the script's reply.

Owns the translation between values and what goes over the wire. Building a Call does no I/O; only
`transport` runs one. No clock, no random number, no handler.
"""

from streamq.calls.call import WRITER_MEMORY_MS, Call, Problems, R, all_streams
from streamq.calls.daemon import Survey, promote, reclaim, repair, restamp, survey, sweep, trim
from streamq.calls.operator import purge, requeue
from streamq.calls.producer import announce, cancel, enqueue, register, wait
from streamq.calls.question import (
    Sizes,
    apps,
    audit_dead,
    audit_pending,
    audit_schedule,
    audit_stream,
    counts,
    dead_page,
    heartbeats,
    locate,
    now,
    policy,
    sizes,
    types,
    workers,
)
from streamq.calls.worker import (
    FetchedByType,
    Source,
    beat,
    block,
    fetch,
    groups,
    leave,
    pending,
    read,
    renew,
    settle,
)

__all__ = [
    "WRITER_MEMORY_MS",
    "Call",
    "FetchedByType",
    "Problems",
    "R",
    "Sizes",
    "Source",
    "Survey",
    "all_streams",
    "announce",
    "apps",
    "audit_dead",
    "audit_pending",
    "audit_schedule",
    "audit_stream",
    "beat",
    "block",
    "cancel",
    "counts",
    "dead_page",
    "enqueue",
    "fetch",
    "groups",
    "heartbeats",
    "leave",
    "locate",
    "now",
    "pending",
    "policy",
    "promote",
    "purge",
    "read",
    "reclaim",
    "register",
    "renew",
    "repair",
    "requeue",
    "restamp",
    "settle",
    "sizes",
    "survey",
    "sweep",
    "trim",
    "types",
    "wait",
    "workers",
]
