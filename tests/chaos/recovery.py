"""How soon the work of a dead worker was ready again and ran, and what befell it until then. Pure.

Owns the reading of one task's way back from the history and the servers' journals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.history import Event
from tests.chaos.journal import Entry, Life


@dataclass(frozen=True, slots=True)
class Recovery:
    """A task that died with its worker: the execution that did not end, the death, and the next start.

    ready_ms: from the death until it was in a stream again; as the place of its next start tells where there
    is no journal, which is later where it was lost once more before that. started_ms: until that start.
    """

    task: str
    lost: Event
    death: Event
    again: Event
    ready_ms: float

    @property
    def started_ms(self) -> float:
        return float(self.again["at"] - self.death["at"]) / 1e6


def recoveries(events: Sequence[Event], lives: Mapping[str, Life] | None = None) -> list[Recovery]:
    """Each task that its worker had begun and not ended when it died, and that ran again."""
    running: dict[Any, dict[str, Event]] = {}
    waiting: dict[str, tuple[Event, Event]] = {}
    found: list[Recovery] = []
    for event in events:
        name, task = event["event"], event.get("id")
        if name == "start":
            if (before := waiting.pop(event["id"], None)) is not None:
                ready = _ready(event, before[0], (lives or {}).get(event["id"], [])) - before[1]["wall"]
                if (
                    ready >= 0
                ):  # else the same entry again, its group was destroyed; or it was taken back before
                    found.append(Recovery(event["id"], *before, event, ready))
            running.setdefault(event["pid"], {})[event["id"]] = event
        elif name in ("effect", "fail", "interrupted"):
            running.get(event["pid"], {}).pop(str(task), None)
        elif dead := event.get("killed") or (name == "crash" and event["pid"]):
            for lost, start in running.pop(dead, {}).items():
                waiting[lost] = start, event
    return found


def _ready(again: Event, lost: Event, life: Life) -> int:
    """When the task was appended after the entry that was lost, by the server's clock in ms."""
    later = _after(life, lost["place"])
    return later[0].ready if later else int(again["place"][1:].partition("-")[0])


def _after(life: Life, place: str) -> Life:
    places = [entry.place for entry in life]
    return life[places.index(place) + 1 :] if place in places else []


def told(recovery: Recovery, lives: Mapping[str, Life], events: Sequence[Event]) -> list[str]:
    """What befell a task from its worker's death until it ran again, with seconds since that death. Lines
    with ** are from the journals."""
    life = lives.get(recovery.task, [])
    death, again = recovery.death, recovery.again
    head = (
        f"{recovery.task}: {recovery.lost['worker']} died; ready after {recovery.ready_ms / 1000:.1f} s, "
        f"started after {recovery.started_ms / 1000:.1f} s"
    )
    way = _until(_after(life, recovery.lost["place"]), again["place"])
    steps = [
        *_steps(way, recovery.lost["lost"], _line(lives, recovery.task)),
        *(step for entry in way for step in _deliveries(entry) if step[0] <= again["wall"]),
    ]
    steps += [(again["wall"], f"started by {again['worker']}")]
    steps += [
        (event["wall"], f"{event.get('kind', 'its own handler killed')}: {event.get('whom', event['pid'])}")
        for event in events
        if event["event"] in ("fault", "crash") and death["at"] < event["at"] < again["at"]
    ]
    return [head, *(f"{(at - death['wall']) / 1000:+8.1f} s  {what}" for at, what in sorted(steps))]


def _until(life: Life, place: str) -> Life:
    places = [entry.place for entry in life]
    return life[: places.index(place) + 1] if place in places else life


def _line(lives: Mapping[str, Life], task: str) -> list[Entry]:
    """All entries of the task's type in its shard."""
    prefix = task.rpartition(":")[0] + ":"
    return [entry for other, life in lives.items() if other.startswith(prefix) for entry in life]


def _steps(life: Life, lost: int, line: list[Entry]) -> Iterator[tuple[int, str]]:
    for entry in life:
        how = f"taken back, {entry.lost} lost" if entry.lost > lost else "handed back"
        lost = entry.lost
        ahead = sum(_ahead(other, entry) for other in line)
        yield entry.ready, f"** ready in {entry.stream} ({how}), behind {ahead} others"


def _ahead(other: Entry, entry: Entry) -> bool:
    """Whether the other one waited in the same stream when this one came, and before it."""
    waited = not other.held or other.held[0][0] > entry.ready
    return other.stream == entry.stream and other.ready < entry.ready and waited


def _deliveries(entry: Entry) -> Iterator[tuple[int, str]]:
    """To whom it was given, and when that one renewed it for the last time."""
    holders = dict.fromkeys(who for _, who in entry.held)
    for holder in holders:
        times = [at for at, who in entry.held if who == holder]
        yield times[0], f"** given to {holder}"
        if len(times) > 1:
            yield times[-1], f"** renewed by {holder}"
