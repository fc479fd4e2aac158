"""Write the reference pages from the code: python ops/docs/reference.py

Owns ops/docs/site/reference/. Its pages are made from docstrings, parsers and tables, and never edited by
hand: a test compares them with what this makes. Must not say anything of its own but headings.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import wire  # noqa: E402

import streamq  # noqa: E402
from streamq import cli, errors, testing  # noqa: E402
from streamq.compat import celery  # noqa: E402
from streamq.environment import VARIABLES  # noqa: E402
from streamq.options.service import DaemonOptions, WorkerOptions  # noqa: E402
from streamq.options.table import OPTIONS  # noqa: E402
from streamq.options.task import TaskOptions  # noqa: E402
from streamq.telemetry.catalogue import METRICS  # noqa: E402

FOLDER: Final = ROOT / "ops/docs/site/reference"
MADE: Final = "Made from the code by `python ops/docs/reference.py`: do not edit.\n"
INTERNAL: Final = ("STREAMQ_DEMO_LEDGER", "STREAMQ_BENCH_APP", "STREAMQ_BENCH_RECORD")
WIDTH: Final = 100


ITEM: Final = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)


class Raw(str):
    """A text that is written into a signature unchanged."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def plain(text: str) -> str:
    """Return a text as Markdown: what is not code shows its own characters."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]|])", r"\\\1", part) for part in parts)


def escaped(text: str) -> str:
    """Return a docstring as Markdown; lines such as `timeout: seconds of ...` become a list."""
    found = plain(ITEM.sub(lambda one: f"\0`{one[1]}`: ", inspect.cleandoc(text)))
    return re.sub(r"(\n?)\0", r"\n* ", found)


def cell(text: object) -> str:
    """Return a text for the cell of a table."""
    return " ".join(plain(str(text)).split()) or " "


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Return a table; the first column is code."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += [f"| `{row[0]}` | " + " | ".join(cell(one) for one in row[1:]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


# -- the interface ---------------------------------------------------------------------------------------


def signature(name: str, found: Callable[..., Any]) -> str:
    """Return how something is called, over several lines if it is long."""
    try:
        shown = inspect.signature(found)
    except (TypeError, ValueError):
        return name
    if inspect.iscoroutinefunction(found):
        name = f"await {name}"
    given = [_written(one) for one in shown.parameters.values() if one.name not in ("self", "cls")]
    answer = shown.return_annotation
    if isinstance(answer, str):
        answer = Raw(answer.strip("'"))
    text = f"{name}{shown.replace(parameters=given, return_annotation=answer)}"
    if len(text) <= WIDTH:
        return text
    end = "" if answer is inspect.Signature.empty else f" -> {answer!r}"
    return f"{name}(\n" + "".join(f"    {line},\n" for line in _arguments(given)) + f"){end}"


def _written(one: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter as the code has it: no quotes around its type, no address in its default."""
    annotation = Raw(one.annotation.strip("'")) if isinstance(one.annotation, str) else one.annotation
    default = one.default
    if default is not inspect.Parameter.empty and repr(default).startswith("<"):
        default = Raw("...")
    return one.replace(annotation=annotation, default=default)


def _arguments(given: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for before, one in zip([None, *given], given, strict=False):
        positional = before is not None and before.kind is inspect.Parameter.POSITIONAL_ONLY
        if positional and one.kind is not inspect.Parameter.POSITIONAL_ONLY:
            yield "/"
        starred = starred or one.kind is inspect.Parameter.VAR_POSITIONAL
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield str(one)


def members(found: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, call and docstring of the public methods and properties of a class, inherited ones too."""
    for name in sorted(dir(found)):
        static = inspect.getattr_static(found, name)
        if name.startswith("_") or getattr(static, "__module__", "streamq").split(".")[0] != "streamq":
            continue
        if isinstance(static, property | functools.cached_property):
            about = inspect.getdoc(static) or ""
            if about:
                yield name, name, about
        elif inspect.isfunction(static) or isinstance(static, classmethod | staticmethod):
            function = getattr(found, name)
            if _is_ours(function):
                yield name, signature(name, function), inspect.getdoc(function) or ""


def _is_ours(function: Any) -> bool:
    return (getattr(function, "__module__", "") or "").split(".")[0] == "streamq"


def entry(name: str, found: Any) -> str:
    """Return the part of a page about one public name."""
    text = f"## `{name}`\n\n"
    if inspect.isclass(found):
        call = name if issubclass(found, enum.Enum) else signature(name, found)
        text += f"```py\n{call}\n```\n\n{escaped(found.__doc__ or '')}\n\n"
        for _, called, about in members(found):
            text += f"```py\n{called}\n```\n\n{escaped(about)}\n\n"
    elif callable(found) and hasattr(found, "__name__"):
        text += f"```py\n{signature(name, found)}\n```\n\n{escaped(inspect.getdoc(found) or '')}\n\n"
    else:
        text += f"```py\n{name} = {_value(found)}\n```\n\n"
    return text


def _value(found: Any) -> str:
    text = str(found).replace("typing.", "")
    return text if len(text) <= WIDTH else text.replace(", ", ",\n    ")


def interface() -> str:
    """Return the page about the public names."""
    named = {name: getattr(streamq, name) for name in streamq.__all__}
    text = (
        f"# Interface\n\n{MADE}\nWhat `from streamq import …` has. Exceptions are in [errors](errors.md).\n\n"
    )
    for name, found in sorted(named.items(), key=lambda one: one[0].lower()):
        if not (inspect.isclass(found) and issubclass(found, Exception)):
            text += entry(name, found)
    return text


def kits() -> str:
    """Return the page about streamq.testing and streamq.compat.celery."""
    text = f"# Test kit and call sites\n\n{MADE}\n"
    text += "What `from streamq.testing import …` and `from streamq.compat.celery import …` have.\n\n"
    shim = ("attach", "shared_task", "SharedTask", "AsyncResult")
    for module, names in ((testing, testing.__all__), (celery, shim)):
        text += "".join(entry(name, getattr(module, name)) for name in names)
    return text


# -- commands --------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> str:
    """Return the table of a parser's arguments."""
    rows: list[tuple[object, ...]] = []
    formatter = parser._get_formatter()  # noqa: SLF001 - argparse has no public way to its own list
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):  # noqa: SLF001
            continue
        given = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        if action.option_strings and action.nargs != 0:
            given += f" {action.metavar or action.dest.upper()}"
        about = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
        rows.append((given, about))
    return table(("argument", "meaning"), rows) + "\n" if rows else ""


def command(parser: argparse.ArgumentParser, depth: int, about: str = "") -> str:
    """Return the part of the page about a command, and those below it."""
    text = f"{'#' * depth} `{parser.prog}`\n\n"
    if parser.description or about:
        text += f"```text\n{parser.description or about}\n```\n\n"
    text += options(parser)
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {one.dest: one.help for one in action._choices_actions}  # noqa: SLF001
            for name, below in action.choices.items():
                text += command(below, depth + 1, helps.get(name) or "")
    return text


def commands() -> str:
    """Return the page about the command line."""
    text = f"# Command line\n\n{MADE}\nBy purpose, with exit codes and variables: [commands](../cli.md).\n\n"
    return text + "".join(command(cli.parser_of(name, cli.load(name)), 2) for name in cli.COMMANDS)


# -- tables ----------------------------------------------------------------------------------------------


def settings() -> str:
    """Return the page about every setting."""
    text = f"# Settings\n\n{MADE}\n## Of a task type and of a call\n\n"
    text += "`@app.task(…)` takes those of the policy, `options(…)` and `send` those of a call.\n\n"
    defaults = {one.name: one.default for one in dataclasses.fields(TaskOptions)}
    rows: list[tuple[object, ...]] = []
    for one in OPTIONS:
        where = " and ".join([*(["policy"] if one.policy else []), *(["call"] if one.per_call else [])])
        default = re.sub(r"<class '(\w+)'>", r"\1", repr(defaults.get(one.name, Raw(""))))
        rows.append((one.name, where, default, f"{one.doc}. {one.more}".rstrip()))
    text += table(("option", "of", "default", "meaning"), rows)
    for head, options_of in (("worker", WorkerOptions), ("daemon", DaemonOptions)):
        text += f"\n## Of a {head}\n\n{escaped(options_of.__doc__ or '')}\n\n"
        fields = dataclasses.fields(options_of)
        text += table(("field", "default"), [(one.name, repr(one.default)) for one in fields])
    text += "\n## Environment variables\n\n"
    variables = [one for one in VARIABLES if one.name not in INTERNAL]
    rows = [(one.name, one.about, one.default) for one in variables]
    return text + table(("variable", "meaning", "default"), rows)


def metrics() -> str:
    """Return the page about the exported metrics."""
    rows = [(one.name, one.kind, ", ".join(one.labels), one.by, one.about) for one in METRICS.values()]
    text = f"# Metrics\n\n{MADE}\nServed on [ports for probes](../../../README.md#ports-and-probes).\n\n"
    return text + table(("metric", "kind", "labels", "exported by", "meaning"), list(rows))


def exceptions() -> str:
    """Return the page about the errors."""
    text = f"# Errors\n\n{MADE}\n"
    text += escaped("\n\n".join((errors.__doc__ or "").split("\n\n")[2:])).replace("\\* ", "* ") + "\n\n"
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, Exception) and found.__module__ == errors.__name__:
            bases = ", ".join(f"`{one.__name__}`" for one in found.__bases__)
            ours = issubclass(found, errors.StreamQError)
            code = f" Exit code of a command: {cli.code_of(_made(found))}." if ours else ""
            text += f"## `{name}`\n\n{escaped(found.__doc__ or '')}\n\nA kind of {bases}.{code}\n\n"
    return text


def _made(found: type[Exception]) -> Exception:
    return found.__new__(found)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "interface.md": interface,
    "test-kit.md": kits,
    "command-line.md": commands,
    "settings.md": settings,
    "metrics.md": metrics,
    "errors.md": exceptions,
    "wire-format.md": lambda: wire.page(MADE, table),
}


def pages() -> dict[str, str]:
    """Return the text of each page, the same whatever the environment says."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("STREAMQ_")}
    try:
        return {name: make().rstrip() + "\n" for name, make in PAGES.items()}
    finally:
        os.environ.update(kept)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        print(f"{name}: {len(text.splitlines())} lines")
