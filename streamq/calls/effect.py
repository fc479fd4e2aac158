"""Effects of a settlement as the rich settle script reads them: one JSON object behind the op's letter.

Owns that form. Knows no outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from streamq.model.effect import Continued, Effect, Follow, Hold, NodeResult, ResultBlob, Stepped, Suspend
from streamq.model.task import NewTask


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
        case Continued(task):
            return "again", _new_run(task)
        case ResultBlob(name, life_ms):
            return "blob", f"{life_ms} {name}"
    assert_never(effect)


def _new_run(task: NewTask) -> str:
    """Return what a new run is besides its arguments: version, lifetime (ms), options of the call."""
    fields = {name: _text(value) for name, value in task.fields}
    return f"{fields.get('V', '1')} {fields.get('x', '')} {fields.get('m', '')}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def payload(effects: Sequence[Effect]) -> bytes | None:
    """Return the arguments of the new run that a task is handed back as; None if it is not."""
    return next((one.task.payload for one in effects if isinstance(one, Continued)), None)
