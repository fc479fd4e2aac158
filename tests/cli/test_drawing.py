"""Tables, progress and the live page: drawn with rich on a terminal, plain everywhere else and without it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from streamq import StreamQ
from streamq.cli import drawing, output
from streamq.cli.layout import Line, Table, plain
from tests.cli.conftest import Capture, run
from tests.cli.terminal import Terminal
from tests.lua.shard import Shard

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WIDE = ("注文の配送", "📦📦", "plain")
TABLE = Table(["NAME", "COUNT", "LAST ERROR"], [[name, 1200, f"{name}: no"] for name in WIDE])
WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from streamq.cli import main
sys.exit(main(sys.argv[1:]))
"""


def columns(line: str, text: str) -> int:
    """The column at which a text begins."""
    return cell_len(line[: line.index(text)])


def terminal_of(monkeypatch: pytest.MonkeyPatch, columns: int = 60, term: str = "xterm") -> io.StringIO:
    """A terminal as standard output."""
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    return out


def drawn(out: io.StringIO) -> list[str]:
    return [CODES.sub("", line).rstrip() for line in out.getvalue().splitlines()]


def test_wide_characters_keep_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = terminal_of(monkeypatch)
    output.write_table(TABLE.head, TABLE.rows, empty="")
    head, *rows = drawn(stdout)
    assert "\x1b[1m" in stdout.getvalue()
    assert {columns(row, "1200") for row in rows} == {columns(head, "COUNT") + 1}
    assert {columns(row, name + ":") for row, name in zip(rows, WIDE, strict=True)} == {
        columns(head, "LAST ERROR")
    }


def test_the_widest_column_is_folded_and_the_others_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = terminal_of(monkeypatch)
    task = "email:0:n1796013774120-0"
    output.write_table(["ID", "LAST ERROR"], [[task, "ValueError: " + "x" * 80]], empty="")
    lines = drawn(stdout)
    assert len(lines) > 3
    assert lines[1].startswith(f"{task}  ValueError:")
    assert "".join(line[26:] for line in lines[1:]).count("x") == 80


def test_what_cannot_be_folded_is_left_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = terminal_of(monkeypatch, columns=20)
    output.write_table(TABLE.head, TABLE.rows, empty="")
    assert drawn(stdout) == TABLE.lines(cell_len)


def test_text_is_not_read_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = terminal_of(monkeypatch)
    output.write_table(["A"], [["[red]x[/red] :smile: \x1b[31m"]], empty="")
    assert drawn(stdout)[1] == "[red]x[/red] :smile: \\x1b[31m"


def test_an_encoding_that_lacks_letters_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    drawing.print_table(Table(["A"], [["é"]]))
    out.flush()
    assert b"\\xe9" in raw.getvalue()


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_plain_columns(monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    stdout = terminal_of(monkeypatch, term=terminal)
    output.write_table(TABLE.head, TABLE.rows, empty="")
    assert stdout.getvalue().splitlines() == TABLE.lines()


def test_a_pipe_gets_plain_columns(capsys: Capture, shard: Shard) -> None:
    code, out, _ = run(capsys, "task", "list", "ready")
    assert code == 0
    assert "\x1b" not in out
    assert out.splitlines()[0] == "ID                        PRIORITY  AGE   FAILED  WORKER  PAYLOAD"


def test_plain_blocks() -> None:
    table = Table(["A", "N"], [["x", 5], ["longer", 10]])
    assert plain([Line("head\n", bold=True), table]) == ["head\\n", "A        N", "x        5", "longer  10"]


def test_without_rich_columns_are_plain_and_top_prints_once(shard: Shard, url: str) -> None:
    for args, text in ((["task", "list", "ready"], "PAYLOAD"), (["top"], "pip install 'streamq[cli]'")):
        with Terminal(program=[sys.executable, "-c", WITHOUT_RICH, *args, "--url", url]) as terminal:
            assert terminal.ended() == 0
            assert text in terminal.seen
            assert "\x1b" not in terminal.seen


def test_a_progress_bar_on_a_terminal(url: str, tmp_path: Path) -> None:
    StreamQ("shop", url).send("email")
    tasks = tmp_path / "tasks"
    tasks.write_text('{"n": 1}\n' * 1200)
    ids = tmp_path / "ids"
    shell = f'exec "$0" -m streamq enqueue email --file {tasks} --url {url} > {ids}'
    with Terminal(program=["sh", "-c", shell, sys.executable]) as terminal:
        assert terminal.ended() == 0
        assert "1200/?" in CODES.sub("", terminal.seen)
    assert len(ids.read_text().splitlines()) == 1200  # nothing of them on the terminal
    assert "email:" not in terminal.seen


def test_the_terminal_is_restored_when_a_long_action_is_ended(url: str) -> None:
    StreamQ("shop", url).send("email")
    with Terminal("enqueue", "email", "-", "--url", url) as terminal:
        terminal.until("\x1b[?25l")
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.ended() == 130
        assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")


def test_rich_is_imported_only_to_draw(shard: Shard, url: str) -> None:
    code = "import sys; from streamq.cli import main; main(sys.argv[1:]); sys.exit('rich' in sys.modules)"
    for args in (
        ["--help"],
        ["task", "list", "ready"],
        ["top"],
        ["stats", "--json"],
        ["enqueue", "email", "{}"],
    ):
        ended = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, check=False)
        assert ended.returncode == 0, args
