"""What breaks when code with one description of its handlers is replaced by code with another.

Owns the rules: what queued tasks, workers of the old code, and readers of results each need. Knows only JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from streamq.schema.kinds import Schema

Breaks = Literal["queued tasks", "old workers", "results"]


class Break(NamedTuple):
    """One thing that no longer fits. breaks: for whom. what: the fault and the fix."""

    type: str
    breaks: Breaks
    what: str


def breaks(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Break]:
    """Return what breaks between two descriptions of an app (see `describe`)."""
    names = {alias: name for name, one in now["types"].items() for alias in (name, *one.get("aliases", ()))}
    found: list[Break] = []
    for name, was in before["types"].items():
        if name not in names:
            what = "it is gone, and its tasks would wait for ever: name it in aliases=[...] of its successor"
            found.append(Break(name, "queued tasks", what))
            continue
        found += _of_type(name, was, now["types"][names[name]])
    return found


def _of_type(name: str, was: Schema, now: Schema) -> Iterator[Break]:
    upcast = any(was["version"] <= step < now["version"] for step in now.get("upcasts", ()))
    if now["version"] < was["version"]:
        what = f"version fell from {was['version']} to {now['version']}: tasks of the newer one would wait"
        yield Break(name, "queued tasks", what)
    elif not upcast:
        for what in _call(now, was):
            yield Break(name, "queued tasks", f"{what}. Raise version, and write an upcaster")
    if now["version"] <= was["version"]:
        for what in _call(was, now):
            yield Break(
                name, "old workers", f"{what}. Raise version: old workers then leave such tasks alone"
            )
    if any(was["version"] <= step < now["version"] for step in now.get("result_upcasts", ())):
        return
    for what in dict.fromkeys([*_fits(now["result"], was["result"]), *_fits(was["result"], now["result"])]):
        yield Break(
            name,
            "results",
            f"the result: {what}. Return a type that reads both, or raise version and write an upcast_result",
        )


def _call(reads: Schema, writes: Schema) -> Iterator[str]:
    """Yield why arguments that one code writes do not fit those that another reads."""
    reader, writer = reads["arguments"], writes["arguments"]
    drops = reader.get("additionalProperties") or reads.get("extra") == "ignore"
    for name, schema in writer["properties"].items():
        if name in reader["properties"]:
            for what in _fits(reader["properties"][name], schema):
                yield f"argument {name!r}: {what}"
        elif not drops:
            yield f"argument {name!r} is not known to the handler that reads it"
    for name in sorted(set(reader["required"]) - set(writer["required"])):
        yield f"argument {name!r} has no default for the handler that reads it, and may not be sent"


def _fits(reads: Schema, writes: Schema, at: str = "") -> Iterator[str]:
    """Yield why values of one schema do not fit another; nothing if they do, or if that cannot be told."""
    if reads == writes or not reads or not writes:
        return
    for option in writes.get("anyOf", [writes]):
        options = reads.get("anyOf", [reads])
        if not any(not list(_one(one, option, at)) for one in options):
            yield from _one(options[0], option, at) if len(options) == 1 else [_differs(reads, option, at)]


def _one(reads: Schema, writes: Schema, at: str) -> Iterator[str]:
    if reads == writes or not reads or not writes:
        return
    if "enum" in reads and "enum" in writes:
        missing = [value for value in writes["enum"] if value not in reads["enum"]]
        if missing:
            yield f"{at}{', '.join(map(repr, missing))} is not among its values"
        return
    kinds = reads.get("type"), writes.get("type")
    if kinds == ("number", "integer"):
        return
    same = kinds[0] == kinds[1] and kinds[0] is not None and reads.get("format") == writes.get("format")
    if not same or kinds[0] not in ("array", "object"):
        yield _differs(reads, writes, at)
    elif kinds[0] == "array":
        yield from _arrays(reads, writes, at)
    else:
        yield from _objects(reads, writes, at)


def _arrays(reads: Schema, writes: Schema, at: str) -> Iterator[str]:
    ours, theirs = reads.get("prefixItems"), writes.get("prefixItems")
    if (ours is None) != (theirs is None) or (ours is not None and len(ours) != len(theirs or [])):
        yield _differs(reads, writes, at)
        return
    pairs = (
        [(reads.get("items", {}), writes.get("items", {}))]
        if ours is None
        else zip(ours, theirs or [], strict=True)
    )
    for one, other in pairs:
        yield from _fits(one, other, f"{at}in the list, ")


def _objects(reads: Schema, writes: Schema, at: str) -> Iterator[str]:
    ours, theirs = reads.get("properties"), writes.get("properties")
    if ours is None or theirs is None:
        if (ours is None) != (theirs is None):
            yield _differs(reads, writes, at)
        else:
            yield from _fits(
                reads.get("additionalProperties", {}), writes.get("additionalProperties", {}), at
            )
        return
    for name, schema in theirs.items():
        if name in ours:
            yield from _fits(ours[name], schema, f"{at}field {name!r}: ")
        else:
            yield f"{at}field {name!r} is not known to its reader"
    for name in sorted(set(reads.get("required", ())) - set(writes.get("required", ()))):
        yield f"{at}field {name!r} has no default for its reader, and may be missing"


def _differs(reads: Schema, writes: Schema, at: str) -> str:
    return f"{at}{_word(writes)} does not fit {_word(reads)}"


def _word(schema: Schema) -> str:
    """Return a schema in a word or two."""
    if "anyOf" in schema:
        return " or ".join(map(_word, schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(repr, schema["enum"]))
    return str(schema.get("format") or schema.get("x-python") or schema.get("title") or schema.get("type"))
