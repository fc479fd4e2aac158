"""How a flow goes on: what ended is taken out of the inbox, and who may run by now becomes a task.

Owns the order of the calls, which workers, daemons and programs make alike: each changes nothing the second
time, so any number may. Maps over the list of another node are cut here, as scripts read no payloads. Does no
I/O: each is a flow of steps (see `streamq.flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import orjson

from streamq import stored_result
from streamq.calls import flows as calls
from streamq.calls import producer as producer_calls
from streamq.calls.flows import Advanced, Ready
from streamq.errors import DecodeError, ServerError
from streamq.flow import Flow, ask
from streamq.flows.children import tell_parent
from streamq.flows.growing import grow, numbered, page_of
from streamq.flows.naming import is_number, maps, named_task, opened_result, parsed_maps, task_id
from streamq.flows.needs import MOST_BYTES, spliced
from streamq.keys import FLOW_PAGE, ShardKeys, type_keys
from streamq.model.task import NAME_PATTERN
from streamq.payloads.pipeline import SEALED, Pipeline, opened
from streamq.payloads.stage import About, NoKey
from streamq.stored import text

RELEASED: Final = 100
"""Nodes that one call releases."""
MOST_CHILDREN: Final = 10_000
"""The most children of one map."""


class Sealed(Exception):
    """The list of a map is sealed, and this process has no keys: a worker cuts it."""


class Guess(NamedTuple):
    """Which nodes may run next, as far as the caller knows: those of this task type on this page of items."""

    type: str
    page: str


class Guesses:
    """What ran next in other flows after nodes of a type: the flows of an app are much alike. A wrong guess
    costs a call."""

    def __init__(self) -> None:
        self._after: dict[str, Guess] = {}

    def after(self, task_type: str) -> Guess | None:
        """Return what to expect after a node of this type."""
        return self._after.get(task_type)

    def learn(self, task_type: str, seen: Guess | None) -> None:
        """Remember what ran after a node of this type; None: the guess cannot be used."""
        if seen is not None:
            self._after[task_type] = seen
        else:
            self._after.pop(task_type, None)


def advance(
    s: ShardKeys,
    flow: str,
    rows: Iterable[str] = (),
    *,
    pipeline: Pipeline | None = None,
    reads: bool = True,
    guess: Guess | None = None,
    learn: Callable[[Guess | None], None] | None = None,
) -> Flow[str]:
    """Take rows of a flow out of the inbox, and let everything run that may. Returns the flow's state.

    pipeline: the stages for payloads. reads: whether this process could read a sealed result. guess: who may
    run then, which saves a call. learn: called with what was a better guess.
    """
    waiting, before = list(rows), None
    while True:
        found = yield from _taken(s, flow, waiting[:FLOW_PAGE], guess, learn)
        waiting, guess = waiting[FLOW_PAGE:], None
        cut = [one for one in found.ready if one.cut]
        yield from cancel_tasks(s, flow, [one.number for one in found.ready if one.lost])
        yield from _release(s, flow, [one for one in found.ready if not one.cut and not one.lost], learn)
        begun = False
        for one in cut:
            if one.grown:
                yield from grow(s, flow, one.number)
                begun = True
            else:
                begun = (yield from _cut(s, flow, one.number, pipeline, reads=reads)) or begun
        over = not begun and not found.more and len(found.ready) < FLOW_PAGE
        if not waiting and (over or found == before):  # a damaged record never gets further
            if found.awaited:
                yield from tell_parent(s, flow)
            return found.state
        before = found


def is_damaged(error: ServerError) -> bool:
    """Return whether a key holds something that streamq did not write. Another error is a fault of the script
    or of the server, which a second call must not hide."""
    return any(one in str(error) for one in ("WRONGTYPE", "nothing was written"))


def cancel_tasks(s: ShardKeys, flow: str, nodes: Sequence[int]) -> Flow[int]:
    """Cancel the tasks of nodes: those that run are asked. Returns how many were cancelled or asked."""
    number = 0
    ranges = (yield from maps(s, flow)) if nodes else {}
    for node in nodes:
        task = yield from task_id(s, flow, node, ranges)
        if task is not None:
            keys = type_keys(s.app, s.shard, task.type)
            answer = yield from ask(producer_calls.cancel(keys, s, task))
            number += answer in ("cancelled", "requested")
    return number


def _taken(
    s: ShardKeys,
    flow: str,
    rows: Sequence[str],
    guess: Guess | None,
    learn: Callable[[Guess | None], None] | None,
) -> Flow[Advanced]:
    """Take rows out of the inbox, and return who may run; those that were guessed run by now."""
    if guess is not None:
        try:
            return (
                yield from ask(calls.step(type_keys(s.app, s.shard, guess.type), s, flow, guess.page, rows))
            )
        except ServerError as error:
            if not is_damaged(error):
                raise
            # A key of that type is damaged: it may not be the one that is next.
            if learn is not None:
                learn(None)
    return (yield from ask(calls.advance(s, flow, rows)))


def _release(
    s: ShardKeys, flow: str, ready: Sequence[Ready], learn: Callable[[Guess | None], None] | None = None
) -> Flow[None]:
    """Release nodes, those of one type and page together."""
    groups: dict[tuple[str, int, int], list[int]] = {}
    firsts = yield from _firsts(s, flow, {one.map for one in ready if one.map >= 0})
    for one in ready:
        first = firsts.get(one.map, 0)
        groups.setdefault((one.type, one.map, (one.number - first) // FLOW_PAGE), []).append(one.number)
    for (name, of, page), nodes in groups.items():
        if not NAME_PATTERN.fullmatch(name):  # a damaged record: the node has died
            yield from ask(calls.mark(s, flow, "fail", nodes[0]))
            continue
        t = type_keys(s.app, s.shard, name)
        if learn is not None and of < 0:
            learn(Guess(name, page_of(of, page)))
        for n in range(0, len(nodes), RELEASED):
            part = nodes[n : n + RELEASED]
            yield from ask(calls.release(t, s, flow, page_of(of, page), part, of, firsts.get(of, 0)))


def _firsts(s: ShardKeys, flow: str, of: Iterable[int]) -> Flow[dict[int, int]]:
    """Return the number of the first child of each of these maps."""
    if not of:
        return {}
    return {node: first for node, (first, _) in (yield from maps(s, flow)).items()}


def _cut(s: ShardKeys, flow: str, node: int, pipeline: Pipeline | None, *, reads: bool) -> Flow[bool]:
    """Cut the list that a map goes over into the arguments of its children; fail the flow if it is none.
    Returns whether the flow goes on."""
    try:
        payloads = yield from _payloads(s, flow, node, pipeline, reads=reads)
    except (Sealed, NoKey):
        return False
    except DecodeError:
        yield from ask(calls.mark(s, flow, "fail", node))
        return True
    yield from numbered(s, flow, node, [(payload,) for payload in payloads])
    return True


def _payloads(
    s: ShardKeys, flow: str, node: int, pipeline: Pipeline | None, *, reads: bool
) -> Flow[list[bytes]]:
    """Return the payloads of the children of a map over another node's result."""
    fields = yield from ask(calls.record(s, flow, [f"s{node}", f"i{node}", f"f{node}", "maps"]))
    source, argument, fixed, ranges = fields
    _, child = yield from named_task(s, flow, node, {})
    if source is None or argument is None or fixed is None or child is None or not is_number(text(source)):
        raise DecodeError("the record of the map is damaged")
    found = yield from ask(calls.results(s, flow, [int(source)], MOST_BYTES))
    if found.size < 0 or not found.found[0][1]:
        raise DecodeError("the list is too large, or is gone")
    stored, _ = stored_result.unpack_result("", found.found[0][1])
    if not reads and SEALED in (stored[:1], fixed[:1]):
        raise Sealed
    about = About(s.app, child.type, "payload")
    raw = yield from opened_result(s, flow, int(source), stored, parsed_maps(ranges))
    found_ = children(raw, text(argument), opened(fixed, about))
    return found_ if pipeline is None else [pipeline.seal(one, about) for one in found_]


def children(raw: bytes, argument: str, fixed: bytes) -> list[bytes]:
    """Return the payload of each child. raw: the list as JSON. Raises DecodeError."""
    try:
        listed = orjson.loads(raw or b"null")
    except ValueError:
        raise DecodeError("the result is not JSON") from None
    if not isinstance(listed, list) or len(listed) > MOST_CHILDREN:
        raise DecodeError(f"a map goes over a list of at most {MOST_CHILDREN:,}")
    return [spliced(fixed, {argument: orjson.dumps(one)}) for one in listed]
