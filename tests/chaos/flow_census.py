"""What the server has of flows when everything has ended. Reads the records with the plain client library.

Owns the reading, not what is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import redis

from streamq import stored_result
from streamq.flows.flow_id import task_of
from streamq.flows.growing import FIRST_KIND
from streamq.keys import ShardKeys

BOOKS: Final = ("nodes", "waiting", "released", "done", "skipped")


@dataclass
class FlowEnd:
    """A flow as it is stored. numbers: of the nodes, by name, but for maps. results: of those that completed.
    tasks: the id of each node's task, by name. undos: the names of undo tasks.
    parent: the task that it runs for."""

    id: str
    key: str
    state: str
    states: str
    books: dict[str, int] = field(default_factory=dict[str, int])
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    results: dict[str, Any] = field(default_factory=dict[str, Any])
    tasks: dict[str, str] = field(default_factory=dict[str, str])
    on_failure: str = ""
    parent: str = ""
    undos: set[str] = field(default_factory=set[str])

    def letter(self, name: str) -> str:
        return self.states[self.numbers[name]] if name in self.numbers else ""


def flows(keys: Mapping[str, redis.Redis], s: ShardKeys) -> Iterator[FlowEnd]:
    """Every flow of a shard. keys: all that there are, each with the node that has it."""
    start = f"{s.base}:flow="
    for key, node in keys.items():
        if key.startswith(start):
            raw: Any = node.hgetall(key)
            record = {name.decode(): value.decode() for name, value in raw.items()}
            if record.get("state", "building") != "building":
                yield _flow(node, s, key.removeprefix(start), record)


def _flow(node: redis.Redis, s: ShardKeys, local: str, record: Mapping[str, str]) -> FlowEnd:
    letters: Any = node.get(s.flow_states(local)) or b""
    name = record["name"]
    found = FlowEnd(
        f"{name}:{s.shard}:{local}", record["key"].partition(":")[2], record["state"], letters.decode(),
        {one: int(record[one]) for one in BOOKS}, parent=record.get("parent", ""),
    )  # fmt: skip
    maps = {
        int(number): (int(first), int(count))
        for number, first, count in (row.split(":") for row in record.get("maps", "").split())
    }
    for number in range(int(record["static"])):
        told = orjson.loads(record[f"n{number}"])
        if told.get("k") != "map":
            found.numbers[told["m"]] = number
            if "t" in told:
                found.tasks[told["m"]] = f"{told['t']}:{s.shard}:{task_of(local, told['l'], number)}"
        first, count = maps.get(number, (0, 0))
        kinds = orjson.loads(record.get(f"kt{number}", "[]"))  # of children that a handler has left
        each = record.get(f"kc{number}", "")
        for n in range(count):
            task_type, letter = kinds[ord(each[n]) - FIRST_KIND] if kinds else (told["t"], told["l"])
            found.numbers[f"{told['m']}[{n}]"] = first + n
            found.tasks[f"{told['m']}[{n}]"] = f"{task_type}:{s.shard}:{task_of(local, letter, first + n)}"
        if str(number) == record.get("on_failure"):
            found.on_failure = told["m"]
        if told.get("k") == "undo":
            found.undos.add(told["m"])
    for named, number in found.numbers.items():
        value: Any = node.hget(s.flow_results(local, number), str(number))
        if value is not None and found.states[number] == "c":
            found.results[named] = orjson.loads(stored_result.unpack_result("", value)[0] or b"null")
    return found
