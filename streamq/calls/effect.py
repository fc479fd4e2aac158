"""Effects of a settlement as the rich settle script reads them: one JSON object behind the op's letter.

Owns that form. Knows no outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from streamq.model.effect import Effect, Follow, Hold, NodeResult, ResultBlob, Stepped, Suspend


def written(effects: Sequence[Effect], results_of: Callable[[NodeResult], int]) -> str:
    """Return the effects as they stand behind an op; '' where there is none. results_of: returns the number
    of the key for a node's result."""
    if not effects:
        return ""
    import orjson  # noqa: PLC0415 - few settlements have an effect

    told = dict(_pair(effect, results_of) for effect in effects)
    for effect in effects:
        if isinstance(effect, NodeResult) and effect.grown:
            told |= {"grow": effect.grown, "expand": int(effect.expanded)}
    return orjson.dumps(told).decode()


def _pair(effect: Effect, results_of: Callable[[NodeResult], int]) -> tuple[str, int | str]:
    match effect:
        case NodeResult():
            return "node", results_of(effect)
        case Hold(ms):
            return "hold", ms
        case Follow(tasks):
            return "follow", len(tasks)
        case Stepped():
            return "steps", 1
        case Suspend(memo):
            return "suspend", memo
        case ResultBlob(name, life_ms):
            return "blob", f"{life_ms} {name}"
    assert_never(effect)
