"""The documentation: its examples run, its links lead somewhere, and what it names exists."""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import gc
import re
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from streamq import Daemon, StreamQ, TaskOptions, Worker, WorkerOptions, cli
from streamq.environment import BENCH_APP, BENCH_RECORD, DEMO_LEDGER, VARIABLES
from tests.cli.pages import FENCED, IS_FILE, LOGGED, parsed, run_console, runnable, write
from tests.running import QUICK, wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
INDEX_PAGE: Final = ROOT / "ops/docs/package/README.md"
GUIDES: Final = [ROOT / "README.md", INDEX_PAGE, *sorted((ROOT / "ops/docs/site").rglob("*.md"))]
PAGES: Final = [
    *GUIDES, ROOT / "CHANGELOG.md", *sorted((ROOT / "ops").glob("*.md")), ROOT / "ops/bench/README.md",
    *sorted((ROOT / "ops" / "runbooks").glob("*.md")), *sorted((ROOT / "tests").glob("*/README.md")),
]  # fmt: skip


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def page(path: str) -> str:
    return (ROOT / path).read_text()


# -- examples ----------------------------------------------------------------------------------------------

FILES_RUN_BY: Final = {
    "testing.md": "tests/testing/test_page.py",
    "django.md": "tests/frameworks/test_pages.py",
    "outbox.md": "tests/frameworks/test_pages.py",
    "fastapi.md": "tests/web/test_examples.py",
    "litestar.md": "tests/web/test_examples.py",
    "flask.md": "tests/web/test_examples.py",
    "tutorial.md": "tests/cli/test_tutorial.py",
    "migrate.md": "tests/migrate/test_forwarders.py",
}
"""Pages with blocks that are files (`# name.py` in the first line), and the tests that run them."""
OF_FILES: Final = ("testing.md", "django.md", "outbox.md", "fastapi.md", "litestar.md", "flask.md")
"""All blocks of these."""
WITH_EXAMPLES: Final = [path for path in GUIDES if runnable(path) and path.name not in OF_FILES]


def test_blocks_that_are_files_are_run_too() -> None:
    pages = {
        path.name
        for path in GUIDES
        for language, code in FENCED.findall(path.read_text())
        if language == "python" and IS_FILE.match(code)
    }
    assert pages <= FILES_RUN_BY.keys()
    for page in pages:
        assert page.removesuffix(".md") in (ROOT / FILES_RUN_BY[page]).read_text()


@contextlib.contextmanager
def worked(app: StreamQ) -> Iterator[None]:
    """A worker and a daemon in a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    worker, daemon = Worker(app, WorkerOptions(block=0.2, heartbeat=0.2)), Daemon(app.address, QUICK)

    async def both() -> None:
        await asyncio.gather(worker.run(), daemon.run())

    thread = threading.Thread(target=lambda: loop.run_until_complete(both()))
    thread.start()
    try:
        wait_until(lambda: worker.ready.is_set() or not thread.is_alive(), 40)
        assert thread.is_alive(), "the worker has ended"
        yield
    finally:
        loop.call_soon_threadsafe(worker.stop)
        loop.call_soon_threadsafe(daemon.stop)
        thread.join(40)
        # As asyncio.run does: clients close their connections there.
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def execute(code: str, where: str, names: dict[str, Any]) -> None:
    """Run a block; it may await."""
    compiled = compile(code, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = eval(compiled, names)  # noqa: S307 - our own pages
    if asyncio.iscoroutine(found):
        asyncio.run(found)


def test_the_main_pages_have_examples() -> None:
    main = ("tasks", "results", "workers", "values", "dashboard")
    assert {name(path) for path in WITH_EXAMPLES} >= {
        "README.md",
        *(f"ops/docs/site/{one}.md" for one in main),
    }


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name)
def test_examples_run_in_their_order(
    path: Path,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One after the other in one namespace, with a worker for the blocks before."""
    monkeypatch.setenv("STREAMQ_URL", url)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"page_{path.stem}")
    for known in (module.__name__, "tasks", "shop", "shop.tasks"):  # as the page's commands call it
        monkeypatch.setitem(sys.modules, known, module)
    with contextlib.ExitStack() as worker:
        for number, block in enumerate(runnable(path), 1):
            where = f"{name(path)}, example {number}"
            if block.kind == "console":
                if "app" in module.__dict__:
                    monkeypatch.setenv("STREAMQ_APP", module.__dict__["app"].name)
                run_console(block.code, where, module.__dict__, lambda: capsys.readouterr().out)
                continue
            if block.kind == "file":
                write(block)
                continue
            definitions, _, program = block.code.partition('if __name__ == "__main__":')
            capsys.readouterr()
            execute(definitions, where, module.__dict__)
            worker.close()
            app: StreamQ = module.__dict__["app"]
            if app.registry.handlers:
                worker.enter_context(worked(app))
            if program:
                execute("if True:" + program, where, module.__dict__)
            if block.printed is not None:
                assert LOGGED.sub("", capsys.readouterr().out) == block.printed
    with warnings.catch_warnings():  # an example may end before all of its connections are closed
        warnings.simplefilter("ignore", ResourceWarning)
        module.__dict__.clear()
        gc.collect()


# -- other blocks -------------------------------------------------------------------------------------------

SHOWN: Final = ("text", "toml", "ini", "json", "py", "yaml", "promql", "js")
"""Blocks that are no program of ours: output, settings, and the code of other queues (`py`) and of
browsers (`js`)."""
STARTED_BY: Final = {
    "uvicorn": "tests/web/test_examples.py",
    "gunicorn": "tests/web/test_examples.py",
    "flask": "tests/web/test_examples.py",
    "pip": ".ci/wheel",
    "python3": ".ci/run",
    "pytest": ".ci/run",
    "ruff": ".ci/run",
    "mypy": ".ci/run",
    "python": "tests/cli/test_readme.py",
    "tests.chaos": "tests/chaos",
    "tests.endurance": "tests/endurance",
}
"""Programs that blocks of `sh` start, and what starts them for the tests."""


@pytest.mark.parametrize("path", GUIDES, ids=name)
def test_each_block_is_run_or_says_what_it_is(path: Path) -> None:
    wrong: list[str] = []
    for language, text in FENCED.findall(path.read_text()):
        if language in (*SHOWN, "python", "console"):
            continue
        if language not in ("sh", "bash"):
            wrong.append(f"a block of {language or 'no language'}: {text[:60]}")
        elif path.name not in FILES_RUN_BY:
            wrong += not_run(text)
    assert wrong == []


def not_run(block: str) -> Iterator[str]:
    """The lines of a block of commands that nothing would start."""
    for line in block.splitlines():
        words = re.sub(r"^(\w+=\S+ )+|^python -m ", "", line).split()
        if words and words[0] == "streamq":
            if found := parsed(line):
                yield found
        elif words and words[0] not in STARTED_BY and not (ROOT / words[0]).exists():
            yield line


# -- links ---------------------------------------------------------------------------------------------------


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", path.read_text()))
    dead: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_index() -> None:
    text = page("ops/docs/site/README.md")
    folder = ROOT / "ops/docs/site"
    others = [path.relative_to(folder).as_posix() for path in GUIDES[2:] if path != folder / "README.md"]
    assert [one for one in others if f"]({one})" not in text] == []
    listed = [path.name for path in sorted((ROOT / "ops").glob("*.md")) if path.name != "README.md"]
    assert [one for one in listed if f"](../../{one})" not in text] == []


def test_what_a_visitor_asks_is_two_clicks_away() -> None:
    """The pages that the table in contributing.md names."""
    table = page("ops/docs/site/contributing.md").partition("## What a visitor asks")[2].partition("\n## ")[0]
    answers = {(ROOT / "ops/docs/site" / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", table)}
    near = {ROOT / "README.md"}
    for _ in range(2):
        near |= {
            (one.parent / link).resolve()
            for one in near
            if one.suffix == ".md" and one.exists()
            for link in re.findall(r"\]\(([^)#:]+\.md)", one.read_text())
        }
    assert len(answers) > 8
    assert answers <= near


def test_every_page_is_where_the_site_is_made_from() -> None:
    """Pages stand in ops/docs/site: git mv them there, and turn their links (../x.md is ../../x.md)."""
    assert [path.name for path in (ROOT / "ops" / "docs").glob("*.md")] == []


# -- what is named -------------------------------------------------------------------------------------------


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found |= options_of(sub)
    return found


@cache
def options(command: str) -> frozenset[str]:
    """Every option of a command and of what is below it."""
    module = cli.load(command)
    parser = argparse.ArgumentParser()
    module.arguments(parser)
    return frozenset(options_of(parser))


def command_lines(path: Path) -> Iterator[str]:
    text = path.read_text()
    blocks = [code for _, code in FENCED.findall(text)]
    spans = re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    for line in [*(line.strip() for code in blocks for line in code.splitlines()), *spans]:
        if re.match(r"streamq [a-z]", line):
            yield line.partition("  #")[0]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_and_their_options_exist(path: Path) -> None:
    wrong: list[str] = []
    for line in command_lines(path):
        command = re.match(r"streamq ([a-z-]+)", line)
        assert command is not None
        given = set(re.findall(r"(?<!\S)\[?(--[a-z-]+)", line))
        if command[1] not in cli.COMMANDS or given - options(command[1]):
            wrong.append(line)
    assert wrong == []


def test_every_command_is_in_its_table() -> None:
    text = page("ops/docs/site/cli.md")
    assert [one for one in cli.COMMANDS if f"`streamq {one}" not in text] == []


def test_exit_codes_and_variables_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = page("ops/docs/site/cli.md")
    cli.main(["--help"])
    codes = re.findall(r"^  (\d+) ", capsys.readouterr().out.partition("exit codes:")[2], re.MULTILINE)
    assert len(codes) > 5
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == codes
    internal = (DEMO_LEDGER, BENCH_APP, BENCH_RECORD)
    assert [one.name for one in VARIABLES if one not in internal and f"`{one.name}`" not in text] == []


def test_every_option_of_a_task_type_is_in_its_tables() -> None:
    wanted = {"name", *(field.name for field in fields(TaskOptions))}
    for path, table in (
        ("ops/docs/site/tasks.md", wanted),
        ("ops/docs/site/policy-changes.md", wanted - {"name"}),
    ):
        cells = re.findall(r"^\| (`[^|]+) \|", page(path), re.MULTILINE)
        named = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
        assert table - named == set()


def test_files_that_the_design_names_exist() -> None:
    named = re.findall(r"`([\w/]+/[\w.*]*|[\w/]+\.(?:py|lua))`", page("ops/docs/site/design.md"))
    assert len(named) > 25
    assert [one for one in named if not list((ROOT / "streamq").glob(one))] == []
