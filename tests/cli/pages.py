"""Owns reading the blocks of a page and running its commands. Must not know which pages there are.

Kinds of blocks: `python` runs; `text` right below it is what it prints. `console` has commands behind `$ `
that run, each followed by what it prints, if that is shown: `…` stands for any text in a line, and alone for
any lines. `sh` has commands that run until they are stopped, or on another machine: they are only parsed.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from streamq import cli

FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LOGGED: Final = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[.*\n", re.MULTILINE)  # by the page's worker
IS_FILE: Final = re.compile(r"# \S+\.(py|toml)\n")
EXIT_CODE: Final = "; echo $?"
_COLUMNS: Final = re.compile(r"(?:\\ ){2,}")
"""Spaces between columns, in a text that is escaped."""
ID: Final = re.compile(r"[\w.@-]+:\d+:[a-z]?\d+-\d+")


class Block(NamedTuple):
    """A block that runs, and what it prints if the page shows it."""

    kind: Literal["python", "console", "file"]
    code: str
    printed: str | None


def runnable(path: Path) -> list[Block]:
    """The blocks of a page that run, in their order, and files that its commands read: `py` that begins with
    a name. Files of `python` are programs, which the page's own test runs."""
    blocks = FENCED.findall(path.read_text())
    found: list[Block] = []
    for (language, code), (below, text) in zip(blocks, [*blocks[1:], ("", "")], strict=False):
        if language == "python" and not IS_FILE.match(code):
            found.append(Block("python", code, text if below == "text" else None))
        elif language == "console":
            found.append(Block("console", code, None))
        elif language == "py" and IS_FILE.match(code):
            found.append(Block("file", code, None))
    return found


def write(block: Block) -> None:
    """Write a file of a page below the working directory."""
    file = Path(block.code.split("\n", 1)[0].removeprefix("# "))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.code)


def commands(block: str, names: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with what the page shows of its output. A comment such as `# task.id`
    says whose id the one in the command is."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        line, _, comment = line.partition("  #")
        if whose := re.match(r" (\w+)(\[0\])?\.id\b", comment):
            task = names[whose[1]][0] if whose[2] else names[whose[1]]
            line = ID.sub(task.id, line)
        yield line.strip(), expected


def pattern(expected: str) -> str:
    """A regular expression for a text with `…` in it. Columns may be as wide as their values need."""
    lines = [
        r"(?:.*\n)*"
        if line.strip() == "…"
        else _COLUMNS.sub(" {2,}", re.escape(line)).replace("…", ".*") + r"\n"
        for line in expected.splitlines()
    ]
    return "".join(lines)


def run_console(block: str, where: str, names: Mapping[str, Any], captured: Callable[[], str]) -> None:
    """Run the streamq commands of a block in this process, and compare what they print."""
    for line, expected in commands(block, names):
        shown = line.endswith(EXIT_CODE)
        words = shlex.split(line.removesuffix(EXIT_CODE))
        assert words[0] == "streamq", f"{where}: {line}: only streamq is run here"
        captured()
        code = cli.main(words[1:])
        said = LOGGED.sub("", captured()) + (f"{code}\n" if shown else "")
        assert shown or code == 0, f"{where}: {line} ends with {code}: {said}"
        if expected:
            assert re.fullmatch(pattern(expected), said), f"{where}: {line} prints\n{said}"


def parsed(line: str) -> str | None:
    """What is wrong with a line that calls streamq; None if its parser takes it."""
    words = shlex.split(line.partition("  #")[0])
    if words[1] not in cli.COMMANDS:
        return f"streamq has no command {words[1]}"
    parser = argparse.ArgumentParser(exit_on_error=False)
    cli.load(words[1]).arguments(parser)
    try:
        _, rest = parser.parse_known_args(words[2:])
    except (argparse.ArgumentError, SystemExit) as error:
        return f"{line}: {error}"
    return f"{line}: unknown {rest}" if rest else None
