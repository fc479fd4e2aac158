"""The page of the wire format, made from keys.py and envelope.py.

Owns what each kind of key holds, in words: neither has them. Used by reference.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from streamq import envelope
from streamq.keys import MANY, OF_FLOWS, SHARD_KINDS, TYPE_KINDS, Kind

MEANING: Final = {
    "high": "tasks of priority high, ready or running",
    "normal": "the same, priority normal",
    "low": "the same, priority low",
    "suspect": "tasks that lost all but one of the deliveries that they may lose",
    "schedule": "delayed tasks and retries; score: the time when due, ms",
    "index": "local id of a task that has moved: its stream and entry",
    "dead": "dead letters; score: when they died, ms",
    "letters": "local id: the fields of the dead letter",
    "counters": "name: how many tasks were accepted, completed, …",
    "policy": "options that enqueue and the daemon need",
    "rate": "when tasks were accepted, for `rate_limit`",
    "cancels": "running tasks that were asked to stop",
    "waiters": "tasks whose end somebody waits for",
    "gone": "tasks that ended as cancelled or expired",
    "groups": "dead letters by error and place",
    "buckets": "the result hashes that exist",
    "sampled": "counters at the last sample",
    "expiring": "tasks that have a lifetime, by its end",
    "unique": "digest of a unique key: the task that holds its lock",
    "after": "digest of a unique key: the task that runs after the holder",
    "steps": "memos of steps of all tasks",
    "lanes": "parked tasks, by lane",
    "turns": "lanes that wait for their turn",
    "ripe": "lanes, by the time at which one may go on",
    "slots": "what each lane holds",
    "limits": "limits that an operator has set",
    "rules": "rules of lanes, kept through a registration by an older release",
    "writer": "a writer's last call and its reply, so that it may be sent again",
    "results": "results of the tasks of one second",
    "live": "what a running task tells: progress, values",
    "mail": "signals that a task has not taken yet",
    "minute": "counts of a minute",
    "quarter": "counts of a quarter of an hour",
    "types": "task types of the shard",
    "workers": "workers by their last heartbeat",
    "heartbeats": "details of each worker",
    "paused": "task type: who paused it, when and why",
    "drains": "workers that were asked to drain",
    "action_log": "what operators did, newest first",
    "actions": "the rows of `action_log`",
    "tail": "exists while a client listens to events",
    "closed": "exists if the shard takes no new tasks",
    "doorbell": "exists while workers wait for `bell`",
    "ready": "streams with ready tasks",
    "bell": "those of `ready` for which no worker was woken",
    "schedules": "schedules, their state and their arguments",
    "schedules_due": "schedules by their next run",
    "inbox": "nodes of flows that have ended",
    "flows": "flows by the time at which they are looked after",
    "flow_names": "key: the flow that was started with it",
    "flow": "the record of a flow",
    "flow_states": "the state of each node, a letter each",
    "flow_items": "what the nodes of a page are to do",
    "flow_results": "what the nodes of a page returned",
}
ELSEWHERE: Final = "see the headers of the scripts that use it"

HEAD: Final = """
What streamq writes to Redis, for those who look with `redis-cli`, write a tool, or judge what an upgrade
may change. It changes by [these rules](../support.md#the-wire-format). Do not write these keys yourself:
scripts check and move them together.

## Names

A task's id is `TYPE:SHARD:LOCAL`. The local id is that of its first stream entry (`1796070307957-0`), after
`d` if it began in the schedule and `n` if a writer drew it. Keys begin with the prefix (`streamq:`) and the
shard in braces, which keeps all keys of a shard in one slot of a cluster: `streamq:{shop:0}:email:high` is
a stream of type `email` in shard 0 of app `shop`. Two keys belong to no app: `streamq:apps`, by which
daemons and commands find apps, and `streamq:{daemons}:daemons` with its `:heartbeats`.

Every stream has one consumer group, `workers`. A stream holds exactly the tasks that are ready or running:
what is pending runs, and settling removes the entry.

## A task: the fields of its entry



"""
SCRIPTS: Final = """
## Scripts

Each change is one script of `streamq/lua/`, sent by its hash (`EVALSHA`, after `NOSCRIPT` once `EVAL`). Its
first lines say what it checks, what it writes, and what it answers.
"""


def fields() -> str:
    """Return the table of the envelope, as its module has it."""
    found = re.findall(r"^\| .*$", envelope.__doc__ or "", re.MULTILINE)
    rows = [re.sub(r"^\| (\w) \|", r"| `\1` |", one) for one in found]
    rest = (envelope.__doc__ or "").partition("made it |\n")[2].strip()
    return "\n".join(rows) + "\n\n" + rest.replace("`features`", "its `features`") + "\n"


def keys(
    table: Callable[[tuple[str, ...], list[tuple[object, ...]]], str], kinds: dict[str, Kind], form: str
) -> str:
    """Return the table of the keys of one form."""
    rows: list[tuple[object, ...]] = [
        (
            form.format(name),
            {"zset": "sorted set"}.get(kind.value, kind.value),
            "expires" if kind.mortal else "stays",
            MEANING.get(name, ELSEWHERE),
        )
        for name, kind in kinds.items()
    ]
    return table(("key", "value", "life", "holds"), rows)


def page(made: str, table: Callable[[tuple[str, ...], list[tuple[object, ...]]], str]) -> str:
    """Return the page."""
    text = f"# The wire format\n\n{made}{HEAD}{fields()}"
    text += "\n## Keys of a task type, in each shard\n\nAfter `PREFIX{APP:SHARD}:TYPE:`.\n\n"
    text += keys(table, TYPE_KINDS, "{}") + "\n" + keys(table, MANY, "{}:…")
    text += "\n## Keys of a shard\n\nAfter `PREFIX{APP:SHARD}:`.\n\n"
    text += keys(table, SHARD_KINDS, "{}") + "\n" + keys(table, OF_FLOWS, "{}=ID")
    return text + "\nAnd `key=NAME`, a string that expires: the task of an idempotency key.\n" + SCRIPTS
