"""Assembles a Lua script from its file: with its names bound, its guard and its parts.

Owns the form of `lua/*.lua`. A header describes the script and names its KEYS and its ARGV. The last name
may be repeated (`items...`), or several names together, once for each task type (`(gone waiters)...`).

The names are bound as Lua locals; behind them stands the guard (see `guards`), then the parts of `lua/lib`
that the line `-- USES …` names, then the body. Parts that few calls need stand where the body has such a
line, or are created by a call of the function that a line `-- LATER <function> …` of the body names; what two
such lines need stands in the header. Does no I/O but read its own package's files.

A script that runs for every task has a *rich* twin for tasks that take part in more than their stream, such
as limits by key: a file with a header of its own, more KEYS and more parts, whose body is the line
`-- BODY <name>`. Lines of the plain script that begin with `--rich ` are code in the twin, and are left out
of the plain script; those that begin with `--lean ` are code in the plain script only. So a plain task pays
nothing for what the twin does, and no body is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from streamq.keys import SHARD_KINDS, TYPE_KINDS

FOLDER: Final = Path(__file__).parent / "lua"
HEADER: Final = re.compile(
    r"\A#!lua(?: flags=[a-z,-]+)?\n"
    r"-- (?P<name>[a-z_]+): .+?\n"
    r"(?:--.*\n)*?"
    r"-- KEYS(?P<keys> .*)?\n(?:--.*\n)*?"
    r"-- ARGV(?P<args> .*)?\n(?:--.*\n)*?"
    r"-- Returns .+\n"
)
_TWIN: Final = re.compile(r"-- BODY ([a-z_]+)\n")
_RICH: Final = re.compile(r"^( *)--rich (.*\n)", re.MULTILINE)
_LEAN: Final = re.compile(r"^( *)--lean (.*\n)", re.MULTILINE)
_LATER: Final = re.compile(r"^ *-- LATER ([a-z_]+) ([a-z_ ]+)\n", re.MULTILINE)
_LOCAL: Final = re.compile(
    r"^local (?P<function>function )?(?P<names>\w+(?:, \w+)*)(?P<value> =)?", re.MULTILINE
)
_COMMENT: Final = re.compile(r"--.*")
_LUA: Final = frozenset((
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while", "cjson", "cmsgpack", "error",
    "ipairs", "math", "next", "pairs", "pcall", "redis", "select", "string", "table", "tonumber",
    "tostring", "type", "unpack", "KEYS", "ARGV", "each", "first_key", "first_arg",
))  # fmt: skip
"""Names that a header must not use: they have another meaning."""
ATTRIBUTES: Final = frozenset((*TYPE_KINDS, *SHARD_KINDS))


class _Part(NamedTuple):
    """A file of `lua/lib`: its text, and the keys, arguments and other parts that it uses."""

    text: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    uses: tuple[str, ...]


def assembled(text: str) -> str:
    """Return the script as it is sent to the server: with its names bound, its guard and its parts."""
    from streamq import guards  # noqa: PLC0415 - with the first call, not with the import of an app

    header = HEADER.match(text)
    if header is None:
        return text
    parts = _parts(_words(header[0], "USES"))
    shared = "".join(part.text for part in parts.values())
    body = _body(header, text[header.end() :])
    if "-- USES " in body:
        body = re.sub(r"^ *-- USES ([a-z_ ]+)\n", partial(_placed, parts), body, flags=re.MULTILINE)
    names, body = _postponed(parts, shared, body)
    own, args = named(header)
    keys = _with_those_of(parts, own)
    _check(header["name"], keys, args, parts)
    head = header[0]
    if keys != own:  # the header that is sent names all of them
        head = re.sub(r"^-- KEYS.*$", f"-- KEYS {' '.join(keys)}", head, count=1, flags=re.MULTILINE)
    bound, guard = _bound(keys, args), guards.guard(header["name"], keys, head, args)
    rest = f"{guard}{names}{shared}{body}"
    return head + bound + (_enclosed(rest) if _TWIN.fullmatch(text, header.end()) else rest)


def _enclosed(text: str) -> str:
    """Return a text as a function that is called at once.

    A function that is created costs a search of its names among the locals that other functions use already,
    but only in the function around it. A rich script creates some 130 functions, and nearly all use the bound
    names.
    """
    return f"return (function()\n{text}end)()\n"


def _body(header: re.Match[str], body: str) -> str:
    """Return the body of a plain script, or that of the plain script whose rich twin this is."""
    twin = _TWIN.fullmatch(body)
    if twin is None:
        if "-- BODY " in body:
            raise ValueError(f"{header['name']}.lua: its line BODY must follow the header, and stand alone")
        return _LEAN.sub(r"\1\2", _RICH.sub("", body))
    text = (FOLDER / f"{twin[1]}.lua").read_text("utf-8")
    plain = HEADER.match(text)
    if plain is None or not _covers(header, plain):
        raise ValueError(f"{header['name']}.lua: its header must have all that {twin[1]}.lua has")
    return _RICH.sub(r"\1\2", _LEAN.sub("", text[plain.end() :]))


def _covers(rich: re.Match[str], plain: re.Match[str]) -> bool:
    """Return whether a rich twin has the keys, parts and arguments of the plain script."""
    (keys, args), (plain_keys, plain_args) = named(rich), named(plain)
    uses, plain_uses = (set(_words(one[0], "USES")) for one in (rich, plain))
    return set(keys) >= set(plain_keys) and args == plain_args and uses >= plain_uses


def _placed(parts: dict[str, _Part], line: re.Match[str] | str) -> str:
    """Return the parts that a line of the body names, without those that precede it."""
    before = set(parts)
    _parts((line if isinstance(line, str) else line[1]).split(), parts)
    return "".join(part.text for name, part in parts.items() if name not in before)


def _postponed(parts: dict[str, _Part], shared: str, body: str) -> tuple[str, str]:
    """Return the names of what is created later, declared, and the body with the functions that create it."""
    outside, names = _COMMENT.sub("", shared + _LATER.sub("", body)), list[str]()

    def create(line: re.Match[str]) -> str:
        text = _placed(parts, line[2])
        own = [name for found in _LOCAL.finditer(text) for name in found["names"].split(", ")]
        seen = [name for name in own if re.search(rf"\b{name}\b", outside)]
        made = f"{line[1]}_made"
        names.extend((line[1], made, *seen))
        once = f"if {made} then return end\n{made} = true\n"
        return f"function {line[1]}()\n{once}{_LOCAL.sub(partial(_assigned, seen), text)}end\n"

    body = _LATER.sub(create, body)
    return (f"local {', '.join(names)}\n" if names else ""), body


def _assigned(seen: Sequence[str], found: re.Match[str]) -> str:
    """Return the start of a definition of names that are declared already, where others see them."""
    names = found["names"].split(", ")
    if not any(name in seen for name in names):
        return found[0]
    if len(names) > 1 or not (found["function"] or found["value"]):
        raise ValueError(f"{names[0]} is seen by other parts: define it alone, with a value")
    return found[0].removeprefix("local ")


def named(header: re.Match[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the keys and of the arguments in a header."""
    keys, args = (_listed(header[part] or "") for part in ("keys", "args"))
    return keys, args


def _listed(words: str) -> tuple[str, ...]:
    single, mark, group = words.partition("(")
    return (*single.split(), mark + group) if mark else tuple(single.split())


def _words(text: str, mark: str) -> tuple[str, ...]:
    """Return the words of the comment line with this mark."""
    _, found, after = text.partition(f"\n-- {mark} ")
    return tuple(after.partition("\n")[0].split()) if found else ()


def _parts(wanted: Iterable[str], found: dict[str, _Part] | None = None) -> dict[str, _Part]:
    """Return these parts and the parts that they use, each once, after those that it uses."""
    found = {} if found is None else found
    for name in wanted:
        if name not in found:
            text = (FOLDER / "lib" / f"{name}.lua").read_text("utf-8")
            part = _Part(text, _words(text, "KEYS"), _words(text, "ARGV"), _words(text, "USES"))
            _parts(part.uses, found)
            found[name] = part
    return found


def _with_those_of(parts: Mapping[str, _Part], own: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a script and of its parts, each once; repeated ones come last."""
    single = [key for key in own if not key.endswith("...")]
    more = [key for part in parts.values() for key in part.keys]
    return (*dict.fromkeys((*single, *more)), *own[len(single) :])


def _check(name: str, keys: Sequence[str], args: Sequence[str], parts: Mapping[str, _Part]) -> None:
    """Raise ValueError if a name would have two meanings, or a part lacks an argument."""
    given = [one not in ATTRIBUTES for one in parted(keys)[0]]
    if given != sorted(given, reverse=True):
        raise ValueError(f"{name}.lua: keys that are not attributes must come first")
    bound = [one.removesuffix("...") for one in (*keys, *args)]
    for one in bound:
        if one in _LUA or bound.count(one) > 1:
            raise ValueError(f"{name}.lua: the name {one} already has another meaning")
    for part, needs in parts.items():
        if missing := set(needs.args) - set(args):
            raise ValueError(f"{name}.lua uses {part}, which needs the arguments {', '.join(missing)}")


def _bound(keys: Sequence[str], args: Sequence[str]) -> str:
    """Return the lines that bind the names of a header."""
    # Access to globals costs more.
    lines = ["local redis, string, KEYS, ARGV = redis, string, KEYS, ARGV"]
    for table, names, first in (("KEYS", keys, "first_key"), ("ARGV", args, "first_arg")):
        single, rest = parted(names)
        if single:
            lines.append(f"local {', '.join(single)} = unpack({table}, 1, {len(single)})")
        if rest.startswith("("):
            lines += _each(rest.strip("().").split(), len(single) + 1)
        elif rest:
            lines.append(f"local {first} = {len(single) + 1}")
    return "\n".join(lines) + "\n"


def _each(names: Sequence[str], first: int) -> list[str]:
    """Return the lines that build a table of keys by name for each task type."""
    row = ", ".join(f"{name} = KEYS[n + {m}]" for m, name in enumerate(names))
    return ["local each = {}", f"for n = {first}, #KEYS, {len(names)} do each[#each + 1] = {{{row}}} end"]


def parted(names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Split names into single ones and the repeated one, without its dots unless it is a group."""
    if not names or not names[-1].endswith("..."):
        return tuple(names), ""
    last = names[-1]
    return tuple(names[:-1]), last if last.startswith("(") else last.removesuffix("...")
