"""Effects of a settlement as the rich settle script reads them: one JSON object behind the op's letter.

Owns that form. Knows no outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from streamq.model.effect import Effect, Follow, Hold, Stepped, Suspend


def written(effects: Sequence[Effect]) -> str:
    """Return the effects as they stand behind an op; '' where there is none."""
    if not effects:
        return ""
    import orjson  # noqa: PLC0415 - few settlements have an effect

    return orjson.dumps(dict(map(_pair, effects))).decode()


def _pair(effect: Effect) -> tuple[str, int | str]:
    match effect:
        case Hold(ms):
            return "hold", ms
        case Follow(tasks):
            return "follow", len(tasks)
        case Stepped():
            return "steps", 1
        case Suspend(memo):
            return "suspend", memo
    assert_never(effect)
