"""Script headers: what the loader makes of them, and the keys that they name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streamq import keys, script_text, scripts

_FLOW = {"flow", "flow_states"}
GIVEN = {
    "audit_flow": _FLOW,
    "flow_advance": _FLOW, "flow_commit": {*_FLOW, "flow_pages"}, "flow_grow": _FLOW, "flow_mark": _FLOW,
    "flow_again": _FLOW,
    "flow_signal": _FLOW,
    "flow_build": {"flow", "flow_items"}, "flow_release": {*_FLOW, "flow_items"},
    "flow_start": {*_FLOW, "flow_items"}, "flow_step": {*_FLOW, "flow_items"},
    "flow_inputs": {*_FLOW, "flow_results"}, "flow_renew": {"flow", "flow_pages"}, "flow_keep": {"flow"},
    "announce": {"apps"}, "audit_keys": {"keys"}, "audit_pending": {"stream"}, "audit_stream": {"stream"},
    "beat": {"beats", "details"}, "enqueue": {"writer", "keys"}, "fetch": {"streams"}, "forget": {"kept"},
    "emit": {"live"}, "signal": {"mail"}, "take_signal": {"mail"},
    "enqueue_rich": {"writer", "keys"}, "tick_rich": {"keys"},
    "groups": {"streams"}, "leave": {"beats", "details", "streams"}, "locate": {"results"},
    "lower_known": {"apps"}, "muster": {"streams"}, "next_due": {"due_sets"}, "page_results": {"results"},
    "page_set": {"set"}, "reclaim": {"stream"}, "repair": {"stream"}, "repair_lifetime": {"key", "counters"},
    "repair_pending": {"stream"}, "restamp": {"stream"}, "rollups": {"rollups"}, "survey": {"streams"},
    "rights": {"key"}, "settle": {"writer", "results"},
    "settle_rich": {"writer", "results"}, "sweep": {"stream"}, "tally": {"rollups"},
    "close_shard": {"each"}, "sample": {"each"}, "trim": {"each"},
}  # fmt: skip
"""Keys that a builder gives by name: one of many of a kind, one that depends on the call, one of no app."""


def text_of(name: str = "x", given: str = "index dead", args: str = "id", uses: str = "") -> str:
    line = f"-- USES {uses}\n" if uses else ""
    return f"#!lua\n-- {name}: does\n{line}-- KEYS {given}\n-- ARGV {args}\n-- Returns it\nreturn 1\n"


def header(name: str) -> tuple[list[str], list[str]]:
    """The names of a script's keys: of which there is one, and those of a group."""
    known = scripts.load(name).keys
    single = [one for one in known if not one.endswith("...")]
    return single, known[-1].strip("().").split() if known and known[-1].startswith("(") else []


def test_every_script_has_a_header_that_is_its_contract() -> None:
    for name in scripts.names():
        assert scripts.load(name).keys
    with pytest.raises(TypeError, match=r"promote.lua takes KEYS schedule .* got 1 and 1"):
        scripts.load("promote").check(["k"], [1])
    with pytest.raises(ValueError, match="the header must be"):
        scripts.parse("x", "return 1")


def test_a_key_is_what_its_name_says() -> None:
    """No builder lists keys by position: a name is an attribute, or is given."""
    t, s = keys.type_keys("shop", 3, "email"), keys.shard_keys("shop", 3)
    for name in scripts.names():
        single, group = header(name)
        given = {one: f"<{one}>" for one in GIVEN.get(name, ()) if one in single}
        more: dict[str, Any] = {one: () for one in GIVEN.get(name, ()) if one not in single}
        if group:
            more = {"each": [(t, {"minute": "<minute>", "quarter": "<quarter>"})]}
        found = scripts.load(name).keys_of(t, s, **given, **more)
        assert len(found) == len(single) + len(group)
        for one, key in zip([*single, *group], found, strict=True):
            assert key in (f"<{one}>", f"{t.base}:{one}", f"{s.base}:{one}"), (name, one)


def test_a_key_that_is_missing_or_not_the_scripts_is_refused() -> None:
    t = keys.type_keys("shop", 0, "email")
    settle = scripts.load("settle")
    with pytest.raises(TypeError, match=r"settle.lua: its key 'results' is missing"):
        settle.keys_of(t, writer="w", buckets=())
    with pytest.raises(TypeError, match=r"settle.lua takes KEYS writer .*, given writer"):
        settle.keys_of(t, writer="w")
    with pytest.raises(TypeError, match=r"settle.lua takes KEYS writer .*, given writer, results, stream"):
        settle.keys_of(t, writer="w", results=(), stream="x")
    with pytest.raises(TypeError, match=r"promote.lua takes KEYS schedule .*, given stream"):
        scripts.load("promote").keys_of(t, stream="x")
    with pytest.raises(TypeError, match=r"counts.lua: key schedule needs the keys of a task type"):
        scripts.load("counts").keys_of(s=keys.shard_keys("shop", 0))


def test_keys_of_one_type_are_found_once_and_are_no_others() -> None:
    settle, one, other = scripts.load("sizes"), keys.type_keys("shop", 0, "a"), keys.type_keys("shop", 1, "a")
    assert settle.keys_of(one) is settle.keys_of(one)
    assert {key.partition("}")[0] for key in settle.keys_of(other)} == {"streamq:{shop:1"}


def test_the_names_of_a_header_are_bound_and_the_body_counts_no_keys() -> None:
    made = script_text.assembled(text_of(args="id rest..."))
    assert (
        "local index, dead = unpack(KEYS, 1, 2)\nlocal id = unpack(ARGV, 1, 1)\nlocal first_arg = 2\n" in made
    )
    for path in [*script_text.FOLDER.glob("*.lua"), *script_text.FOLDER.glob("lib/*.lua")]:
        assert not re.search(r"(KEYS|ARGV)\[\d", path.read_text()), path


@pytest.mark.parametrize("name", ["type", "next", "each", "first_key"])
def test_a_name_that_stands_for_something_else_is_refused(name: str) -> None:
    for made in (text_of(given=name), text_of(args=name), text_of(given="index", args="index")):
        with pytest.raises(ValueError, match="already has another meaning"):
            script_text.assembled(made)


def test_lists_of_kinds_in_scripts_follow_the_table() -> None:
    """A kind that is new says what becomes of it when its shard is given up or its type is forgotten."""
    kinds = keys.TYPE_KINDS
    assert set(header("close_shard")[1]) == {name for name, kind in kinds.items() if kind.closing != "kept"}
    body = scripts.load("close_shard").text
    for name, kind in kinds.items():
        assert (f"of.{name}" in body.partition("if bad then return bad end")[2]) == (
            kind.closing == "dropped"
        )
        assert bool(re.search(rf"\b{name} = '[XZHS]", body)) == (kind.closing == "empty")
    assert set(kinds) <= set(header("forget")[0])


def test_a_kind_of_key_is_said_once() -> None:
    t, s = keys.type_keys("shop", 0, "email"), keys.shard_keys("shop", 0)
    for name, kind in keys.KINDS.items():
        assert keys.VALUES[name] == kind.value
        assert (name in keys.MORTAL) == kind.mortal
        made = getattr(t, name, None) or getattr(s, name)
        given = {"minute": (0,), "quarter": (0,), "flow_items": ("0-1", "0"), "flow_results": ("0-1", 5)}
        key = made if isinstance(made, str) else made(*given.get(name, ("d0-1",)))
        known = keys.known_key("shop", key)
        assert known is not None
        assert known.kind == name
    assert {"schedule", "letters"} < keys.HOLDING


def test_shared_parts_are_put_behind_the_header() -> None:
    made = script_text.assembled(text_of(given="groups letters", uses="opened shortened"))
    assert made.endswith("return 1\n")
    assert made.count("local function opened") == made.count("local function shortened") == 1
    assert scripts.parse("x", made).keys == ("groups", "letters")
    assert "opened" not in script_text.assembled(text_of(given="groups letters"))


PARTS = sorted(script_text.FOLDER.glob("lib/*.lua"))


@pytest.mark.parametrize("part", PARTS, ids=lambda path: path.stem)
def test_a_part_says_what_it_is_and_names_what_it_takes(part: Any) -> None:
    text = part.read_text()
    assert re.match(rf"-- {part.stem}[(\[]", text), part
    code = re.sub("--.*", "", text)
    declared = {
        word for line in re.findall(r"^-- (?:KEYS|ARGV) (.+)$", text, re.MULTILINE) for word in line.split()
    }
    for one in (*keys.TYPE_KINDS, *keys.SHARD_KINDS):
        if not re.search(rf"local [^\n]*\b{one}\b", code):
            assert one in declared or not re.search(rf"(?<![.'\w]){one}\b(?!')", code), one
    assert not re.search(r"\b(KEYS|ARGV)\[\d", code)


def test_what_a_script_calls_of_a_part_stands_before_it() -> None:
    """A server tells of a name that is not there only when a call comes to that line."""
    found = "|".join(
        name
        for part in PARTS
        for name in re.findall(r"^local function (\w+)", part.read_text(), re.MULTILINE)
    )
    uses = re.compile(rf"(?<![.\w])(function )?({found})\(")
    for script in scripts.names():
        made = set[str]()
        for use in uses.finditer(re.sub("--.*", "", scripts.load(script).text)):
            if use[1]:
                made.add(use[2])
            assert use[2] in made, (script, use[2])


def test_parts_come_once_and_behind_those_that_they_use() -> None:
    made = script_text.assembled(text_of(given="schedule", args="action about", uses="ring note clock"))
    order = [made.index(f"local function {name}(") for name in ("clock", "ring", "note")]
    assert order == sorted(order)
    assert made.count("local function clock(") == 1
    assert scripts.parse("x", made).keys == ("schedule", "doorbell", "ready", "bell", "action_log", "actions")
    with pytest.raises(ValueError, match="x.lua uses note, which needs the arguments action"):
        script_text.assembled(text_of(given="schedule", args="about", uses="note"))


def test_parts_that_few_calls_need_stand_where_the_body_names_them() -> None:
    text = text_of(given="schedule", uses="clock") + "if 1 then\n  -- USES ring\nend\n"
    made = script_text.assembled(text)
    assert made.index("local function clock(") < made.index("if 1 then") < made.index("local function ring(")
    assert made.count("local function clock(") == 1
    assert scripts.parse("x", made).keys == ("schedule", "doorbell", "ready", "bell")


def test_parts_that_few_calls_need_are_created_by_the_function_that_the_body_names() -> None:
    text = text_of(given="schedule") + "-- LATER bells ring\nbells()\nring(schedule)\n"
    made = script_text.assembled(text)
    assert "local bells, bells_made, ring\n" in made  # the clock is for the ring only
    assert (
        made.index("function bells()\n")
        < made.index("\nlocal function clock(")
        < made.index("\nfunction ring(")
    )
    assert scripts.parse("x", made).keys == ("schedule", "doorbell", "ready", "bell")


def test_a_name_that_others_see_is_defined_alone_where_it_is_created_later() -> None:
    text = (
        text_of(given="schedule", args="task_type wake")
        + "-- LATER later unique_free\nrelease.u(unique_enters)\n"
    )
    with pytest.raises(
        ValueError, match="unique_enters is seen by other parts: define it alone, with a value"
    ):
        script_text.assembled(text)


def test_scripts_touch_no_key_that_is_not_declared() -> None:
    """A key is either in KEYS or nowhere: no script spells or builds one."""
    for name in scripts.names():
        assert "streamq:" not in scripts.load(name).text
