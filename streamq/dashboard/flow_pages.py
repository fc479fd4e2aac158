"""The pages of flows, which only read: the list, and one flow with its picture.

Owns what is on them; their values come from the app's flows, their layout from templates. Every list is
bounded, however many nodes a flow has.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamq.control.flow_pages import FlowPart
from streamq.control.flows import path_of
from streamq.dashboard import flow_views
from streamq.dashboard.context import Site
from streamq.dashboard.flow_graph import pictures
from streamq.dashboard.queries import PAGE, paged, paging
from streamq.errors import UsageError
from streamq.flows import folding
from streamq.flows.reading import OVER, NodeInfo

TROUBLED: Final = 5
"""Flows of each kind that the list names first."""
WAITS: Final = 5
"""Nodes that a node waits for, which are named; of more the number is told."""


class FlowPages:
    """Routes of the pages of flows."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [Route("/flows", self.flows), Route("/flows/{id}", self.flow)]

    def flows(self, request: Request) -> Response:
        query, redaction = request.query_params, self._site.redaction
        state, cursor = flow_views.parse_state(query.get("state", "")), query.get("cursor", "")
        flows = self._site.flows(request)
        page = flows.page(state, cursor=cursor, limit=PAGE)
        stuck, failed = ([], []) if state or cursor else flows.troubled(TROUBLED)
        shown = flow_views.page(page, redaction)
        return self._site.page(
            request, "flows.html", page=shown, state=state or "", states=flow_views.STATES, over=OVER,
            stuck=[flow_views.flow(one, redaction) for one in stuck],
            failed=[flow_views.flow(one, redaction) for one in failed],
        )  # fmt: skip

    def flow(self, request: Request) -> Response:
        query, redaction = request.query_params, self._site.redaction
        flows, inspector = self._site.flows(request), self._site.inspector(request)
        part = flows.part(request.path_params["id"], flow_views.number_of(query, "first"))
        nodes = folding.visible(part.nodes)
        path = path_of(nodes)
        cause = part.failure.node.partition("[")[0] if part.failure else ""
        boxes = folding.folded(nodes, alone=[cause])
        more: dict[str, Any] = {**self._children(request, part), **_elsewhere(part, boxes)}
        return self._site.page(
            request, "flow.html", flow=flow_views.flow(part.flow, redaction), part=part, over=OVER,
            failure=flow_views.failure(part.failure, inspector, redaction),
            stuck=flow_views.failure(part.stuck, inspector, redaction), pictures=pictures(boxes, path),
            path=path, names=path if len(path) <= 2 * WAITS else [*path[:WAITS], "…", *path[-WAITS:]],
            rows=[_row(one) for one in paged(query, part.nodes)], paging=paging(query, part.nodes),
            now_ms=inspector.now_ms(), **more,
        )  # fmt: skip

    def _children(self, request: Request, part: FlowPart) -> dict[str, object]:
        """Return the children of the map that the URL names, a page of them."""
        query = request.query_params
        name = query.get("map", "")
        if not name:
            return {"map": None, "following_child": -1}
        node = next((one for one in part.nodes if one.name == name), None)
        if node is None or not (node.children or node.kind == "map"):
            raise UsageError(f"No map {name[:100]!r} among these nodes.")
        state = flow_views.parse_node_state(query.get("show", ""))
        first = flow_views.number_of(query, "from") or 0
        found, following = self._site.flows(request).children(
            part.flow.id, node.number, state, first=first, limit=PAGE
        )
        return {"map": node, "show": state or "", "children": found, "following_child": following}


def _row(one: NodeInfo) -> dict[str, object]:
    more = len(one.waits) - WAITS
    return {"node": one, "waits": list(one.waits[:WAITS]), "more": max(0, more)}


def _elsewhere(part: FlowPart, boxes: list[folding.Box]) -> dict[str, object]:
    """Return how many nodes are declared before and after those that are drawn, and where these begin."""
    begin = part.nodes[0].number if part.nodes else 0
    shown = {one.number for box in boxes for one in box.nodes}
    left = [one for one in folding.visible(part.nodes) if one.number not in shown]
    after = sum(part.after.values()) + len(left)
    following = left[0].number if left else begin + len(part.nodes)
    return {"begin": begin, "earlier": begin, "later": after, "following": following, "drawn": len(shown)}
