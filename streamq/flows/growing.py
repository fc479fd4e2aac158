"""How a node of a flow gets children while the flow runs: their items are stored, then they get numbers.

Owns the order of the calls, each of which changes nothing the second time. Reads no payload. Does no I/O:
each is a flow of steps (see `streamq.flow`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from streamq.calls import flows as calls
from streamq.calls.call import Arg
from streamq.calls.flows import Item
from streamq.errors import DecodeError
from streamq.flow import Flow, ask
from streamq.flows import needs
from streamq.flows.needs import OfMap
from streamq.keys import FLOW_PAGE, ShardKeys
from streamq.registry import growth

_TRIES: Final = 20
FIRST_KIND: Final = 33
"""The byte that stands for the first of the types of a node's children."""


def page_of(of: int, page: int) -> str:
    """Return the name of a page of items. of: the map whose children they are, -1 for none."""
    return str(page) if of < 0 else f"{of}.{page}"


def grow(s: ShardKeys, flow: str, node: int) -> Flow[None]:
    """Make the children that a node's handler has returned; fail the flow if they cannot be read."""
    stored = yield from ask(calls.children(s, flow, node))
    try:
        children, join, argument = growth.read(stored or b"")
    except DecodeError:
        yield from ask(calls.mark(s, flow, "fail", node))
        return
    kinds = list(dict.fromkeys((one.type, one.letter) for one in children))
    each = bytes(FIRST_KIND + kinds.index((one.type, one.letter)) for one in children)
    record: dict[str, Arg] = {f"kt{node}": orjson.dumps(kinds), f"kc{node}": each, f"kj{node}": int(join)}
    items = [one.values for one in children]
    if argument:
        items[-1][2] = needs.written({argument: OfMap(node, len(items) - 1)}).encode()
    yield from numbered(s, flow, node, items, record)


def numbered(
    s: ShardKeys,
    flow: str,
    node: int,
    items: Sequence[Sequence[Arg]],
    record: Mapping[str, Arg] | None = None,
) -> Flow[None]:
    """Store the items of a node's children, and fields of the record; then give the children numbers."""
    for n in range(0, max(1, len(items)), FLOW_PAGE):
        page = [Item(n + m, values) for m, values in enumerate(items[n : n + FLOW_PAGE])]
        fields = record or {} if n == 0 else {}
        call = calls.build_part(s, flow, page_of(node, n // FLOW_PAGE), fields, page, running=True)
        if not (yield from ask(call)):
            return
    for _ in range(_TRIES):
        first = len((yield from ask(calls.states(s, flow))))
        if (yield from ask(calls.grow(s, flow, node, first, len(items)))) >= 0:
            return
