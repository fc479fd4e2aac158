"""One builder for each script: arguments in, a Call out; and how to read the script's reply.

Owns the translation between values and what goes over the wire. Building a Call does no I/O; only
`transport` runs one. No clock, no random number, no handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.calls.audit import Fault as Fault
    from streamq.calls.audit import FaultCode as FaultCode
    from streamq.calls.audit import KeyState as KeyState
    from streamq.calls.audit import Rows as Rows
    from streamq.calls.audit import Walked as Walked
    from streamq.calls.audit import audit_dead as audit_dead
    from streamq.calls.audit import audit_keys as audit_keys
    from streamq.calls.audit import audit_letters as audit_letters
    from streamq.calls.audit import audit_pending as audit_pending
    from streamq.calls.audit import audit_places as audit_places
    from streamq.calls.audit import audit_rows as audit_rows
    from streamq.calls.audit import audit_schedule as audit_schedule
    from streamq.calls.audit import audit_stream as audit_stream
    from streamq.calls.audit import consumers as consumers
    from streamq.calls.audit import index_place as index_place
    from streamq.calls.audit import overdue_expiries as overdue_expiries
    from streamq.calls.audit import overdue_waiters as overdue_waiters
    from streamq.calls.audit import repair_books as repair_books
    from streamq.calls.audit import repair_counters as repair_counters
    from streamq.calls.audit import repair_dead as repair_dead
    from streamq.calls.audit import repair_lifetime as repair_lifetime
    from streamq.calls.audit import repair_pending as repair_pending
    from streamq.calls.audit import repair_place as repair_place
    from streamq.calls.audit import repair_row as repair_row
    from streamq.calls.audit import repair_type as repair_type
    from streamq.calls.audit import scan_keys as scan_keys
    from streamq.calls.audit import scan_rows as scan_rows
    from streamq.calls.audit import unsound_counters as unsound_counters
    from streamq.calls.call import SILENT_MS as SILENT_MS
    from streamq.calls.call import WRITER_MEMORY_MS as WRITER_MEMORY_MS
    from streamq.calls.call import Call as Call
    from streamq.calls.call import R as R
    from streamq.calls.call import all_streams as all_streams
    from streamq.calls.daemon import Survey as Survey
    from streamq.calls.daemon import attend as attend
    from streamq.calls.daemon import close_shard as close_shard
    from streamq.calls.daemon import depart as depart
    from streamq.calls.daemon import expire as expire
    from streamq.calls.daemon import lower_known as lower_known
    from streamq.calls.daemon import next_due as next_due
    from streamq.calls.daemon import next_expiry as next_expiry
    from streamq.calls.daemon import promote as promote
    from streamq.calls.daemon import reclaim as reclaim
    from streamq.calls.daemon import repair as repair
    from streamq.calls.daemon import restamp as restamp
    from streamq.calls.daemon import survey as survey
    from streamq.calls.daemon import sweep as sweep
    from streamq.calls.daemon import trim as trim
    from streamq.calls.listing import Group as Group
    from streamq.calls.listing import Row as Row
    from streamq.calls.listing import RowPage as RowPage
    from streamq.calls.listing import action_log as action_log
    from streamq.calls.listing import actions as actions
    from streamq.calls.listing import dead_count as dead_count
    from streamq.calls.listing import dead_groups as dead_groups
    from streamq.calls.listing import dead_slices as dead_slices
    from streamq.calls.listing import page_buckets as page_buckets
    from streamq.calls.listing import page_dead as page_dead
    from streamq.calls.listing import page_ended as page_ended
    from streamq.calls.listing import page_results as page_results
    from streamq.calls.listing import page_schedule as page_schedule
    from streamq.calls.listing import page_streams as page_streams
    from streamq.calls.listing import paused as paused
    from streamq.calls.operator import drain as drain
    from streamq.calls.operator import forget as forget
    from streamq.calls.operator import listen as listen
    from streamq.calls.operator import pause as pause
    from streamq.calls.operator import purge as purge
    from streamq.calls.operator import requeue as requeue
    from streamq.calls.operator import resubmit as resubmit
    from streamq.calls.operator import resume as resume
    from streamq.calls.operator import run_now as run_now
    from streamq.calls.producer import NOBODY as NOBODY
    from streamq.calls.producer import Confirmed as Confirmed
    from streamq.calls.producer import ShardClosed as ShardClosed
    from streamq.calls.producer import announce as announce
    from streamq.calls.producer import app_record as app_record
    from streamq.calls.producer import cancel as cancel
    from streamq.calls.producer import confirmed as confirmed
    from streamq.calls.producer import earlier as earlier
    from streamq.calls.producer import enqueue as enqueue
    from streamq.calls.producer import is_closed as is_closed
    from streamq.calls.producer import open_shard as open_shard
    from streamq.calls.producer import probe_aof as probe_aof
    from streamq.calls.producer import register as register
    from streamq.calls.producer import wait as wait
    from streamq.calls.question import Sizes as Sizes
    from streamq.calls.question import apps as apps
    from streamq.calls.question import counts as counts
    from streamq.calls.question import daemon_heartbeats as daemon_heartbeats
    from streamq.calls.question import daemons as daemons
    from streamq.calls.question import died_since as died_since
    from streamq.calls.question import heartbeats as heartbeats
    from streamq.calls.question import info as info
    from streamq.calls.question import locate as locate
    from streamq.calls.question import now as now
    from streamq.calls.question import policy as policy
    from streamq.calls.question import ready as ready
    from streamq.calls.question import sizes as sizes
    from streamq.calls.question import types as types
    from streamq.calls.question import workers as workers
    from streamq.calls.rollup import rollups as rollups
    from streamq.calls.rollup import sample as sample
    from streamq.calls.rollup import tally as tally
    from streamq.calls.worker import SELDOM_MS as SELDOM_MS
    from streamq.calls.worker import SOON_MS as SOON_MS
    from streamq.calls.worker import FetchedByType as FetchedByType
    from streamq.calls.worker import Source as Source
    from streamq.calls.worker import answer_bell as answer_bell
    from streamq.calls.worker import beat as beat
    from streamq.calls.worker import block as block
    from streamq.calls.worker import fetch as fetch
    from streamq.calls.worker import groups as groups
    from streamq.calls.worker import leave as leave
    from streamq.calls.worker import listed as listed
    from streamq.calls.worker import may_read as may_read
    from streamq.calls.worker import muster as muster
    from streamq.calls.worker import orders as orders
    from streamq.calls.worker import pending as pending
    from streamq.calls.worker import publish as publish
    from streamq.calls.worker import read as read
    from streamq.calls.worker import renew as renew
    from streamq.calls.worker import rights as rights
    from streamq.calls.worker import ring_again as ring_again
    from streamq.calls.worker import settle as settle
    from streamq.calls.worker import watch as watch

# An operator's question is nothing that a producer has to load.
__all__, _named = lazy.names(__name__, {
    "audit": (
        "Fault", "FaultCode", "KeyState", "Rows", "Walked", "audit_dead", "audit_keys", "audit_letters",
        "audit_pending", "audit_places", "audit_rows", "audit_schedule", "audit_stream", "consumers",
        "index_place", "overdue_expiries", "overdue_waiters", "repair_books", "repair_counters",
        "repair_dead", "repair_lifetime", "repair_pending", "repair_place", "repair_row", "repair_type",
        "scan_keys", "scan_rows", "unsound_counters",
    ),
    "call": ("SILENT_MS", "WRITER_MEMORY_MS", "Call", "R", "all_streams"),
    "daemon": (
        "Survey", "attend", "close_shard", "depart", "expire", "lower_known", "next_due", "next_expiry",
        "promote", "reclaim", "repair", "restamp", "survey", "sweep", "trim",
    ),
    "listing": (
        "Group", "Row", "RowPage", "action_log", "actions", "dead_count", "dead_groups", "dead_slices",
        "page_buckets", "page_dead", "page_ended", "page_results", "page_schedule", "page_streams",
        "paused",
    ),
    "operator": ("drain", "forget", "listen", "pause", "purge", "requeue", "resubmit", "resume", "run_now"),
    "producer": (
        "NOBODY", "Confirmed", "ShardClosed", "announce", "app_record", "cancel", "confirmed",
        "earlier", "enqueue", "is_closed", "open_shard", "probe_aof", "register", "wait",
    ),
    "question": (
        "Sizes", "apps", "counts", "daemon_heartbeats", "daemons", "died_since",
        "heartbeats", "info", "locate", "now", "policy", "ready", "sizes", "types", "workers",
    ),
    "rollup": ("rollups", "sample", "tally"),
    "worker": (
        "SELDOM_MS", "SOON_MS", "FetchedByType", "Source", "answer_bell", "beat", "block", "fetch",
        "groups", "leave", "listed", "may_read", "muster", "orders", "pending", "publish", "read",
        "renew", "rights", "ring_again", "settle", "watch",
    ),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)
