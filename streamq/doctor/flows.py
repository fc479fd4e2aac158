"""Check the flows of an app: those that do not go on, whose numbers are off, or whose undo has failed.

Owns how they are judged. Reads only flows in trouble, however many there are: the audit reads all. Writes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from streamq.audit import children
from streamq.calls import flows as calls
from streamq.calls.call import Call
from streamq.control.flows import Flows
from streamq.doctor.check import Check, fault, ok
from streamq.errors import ServerError
from streamq.flow import drive
from streamq.flows.reading import FlowInfo
from streamq.keys import TypeKeys, shard_keys
from streamq.transport.sync_transport import SyncTransport

LOOKED_AT: Final = 25
"""Flows that do not go on, and flows that have failed, that are read."""
SCANS: Final = 20
"""Looks at 100 memos of a type each."""
SHOWN: Final = 10
"""Keys that cannot be read, of those that are."""

Ask = Callable[[Call[Any], Callable[[], Any]], Any]
"""Answers a call, or else returns what the second argument returns."""


def checks(transport: SyncTransport, app: str, shards: int, ask: Ask) -> Iterator[Check]:
    """Run them; nothing where there are no flows."""
    name, flows = f"flows of {app}", Flows(transport, app, shards)
    late, failed = flows.troubled(LOOKED_AT)
    unreadable, left = flows.faults, flows.left_behind()
    wrong = [fault(name, one, "streamq audit shows what the key holds") for one in unreadable[:SHOWN]]
    wrong += [*_behind(name, late, left), *_off(name, [*late, *failed]), *_stuck(name, failed)]
    yield from wrong
    if wrong:
        return
    stored = sum(ask(calls.number_of_flows(shard_keys(app, shard)), int) for shard in range(shards))
    if stored:
        most = "at least " if len(failed) == LOOKED_AT else ""
        yield ok(name, f"{stored} stored, none stands still; {most}{len(failed)} failed")


def waiting(transport: SyncTransport, types: Iterable[TypeKeys]) -> Iterator[Check]:
    """Report tasks that wait for a flow that is gone, as far as a look at some memos tells."""
    for t in types:
        try:
            lost = drive(transport, children.gone(shard_keys(t.app, t.shard), t, SCANS))
        except ServerError:  # what cannot be read is reported by others, or the user may not read it
            continue
        if lost:
            tasks = ", ".join(f"{t.type}:{t.shard}:{one.task}" for one in lost[:3])
            said = f"{tasks}: {len(lost)} tasks wait for a flow that is gone"
            yield fault(f"flows of {t.app}", said, "each looks within an hour, and runs its flow anew")


def _behind(name: str, late: Sequence[FlowInfo], left: dict[str, int]) -> Iterator[Check]:
    if left:
        first = [one.id for one in late if one.id.rpartition(":")[2] in left] or list(left)
        said = f"{', '.join(first[:3])}: {len(left)} flows do not go on, {sum(left.values())} ends of their "
        said += "nodes wait for a minute"
        yield fault(name, said, "a daemon takes them: is one running, and does it keep up?")


def _off(name: str, looked_at: Sequence[FlowInfo]) -> Iterator[Check]:
    if off := [one.id for one in looked_at if one.imbalance]:
        said = f"{', '.join(off[:3])}: the numbers are off"
        yield fault(name, said, "streamq audit says by what")


def _stuck(name: str, failed: Sequence[FlowInfo]) -> Iterator[Check]:
    if stuck := [one.id for one in failed if one.state == "stuck"]:
        said = f"{', '.join(stuck[:3])}: an undo task failed, and what completed before is not undone"
        yield fault(name, said, f"streamq flow {stuck[0]} says why; then streamq flow retry")
