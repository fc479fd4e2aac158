"""Completion in the shells themselves: what they would offer, and what TAB makes of a line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from argcomplete.finders import CompletionFinder

from streamq.calls import worker as worker_calls
from streamq.cli import COMMANDS, completion
from tests.cli.conftest import Capture, run
from tests.cli.terminal import ROOT, Terminal
from tests.lua.shard import Shard

_INTERACTIVE = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}
Complete = Callable[[str], list[str]]
_BASH = """
source {script}
COMP_LINE={line}
COMP_POINT=${{#COMP_LINE}}
COMP_TYPE=9
_python_argcomplete streamq
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(shell: str, folder: Path) -> Path:
    """The script of a shell, beside a `streamq` to call."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on the PATH")
    bin_ = folder / "bin"
    bin_.mkdir(exist_ok=True)
    program = bin_ / "streamq"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m streamq "$@"\n')
    program.chmod(0o755)
    found = folder / f"completion.{shell}"
    with found.open("wb") as out:
        subprocess.run(
            [sys.executable, "-m", "streamq", "completion", shell],
            stdout=out,
            env=environment(folder),
            check=True,
        )
    return found


def environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(folder)}


@pytest.fixture(params=["bash", pytest.param("fish", marks=pytest.mark.long)])
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """What a shell offers at the end of a line."""
    source = script(request.param, tmp_path)

    def offered(line: str) -> list[str]:
        if request.param == "bash":
            text = _BASH.format(script=shlex.quote(str(source)), line=shlex.quote(line))
            command = ["bash", "--norc", "-c", text]
        else:
            text = f"source {shlex.quote(str(source))}; complete -C {shlex.quote(line)}"
            command = ["fish", "--no-config", "-c", text]
        done = subprocess.run(
            command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return [row.partition("\t")[0].rstrip() for row in done.stdout.splitlines() if row]

    return offered


def test_commands_options_and_choices(complete: Complete, shard: Shard) -> None:
    assert set(complete("streamq ")) >= set(COMMANDS)
    assert complete("streamq dea") == ["dead"]
    assert set(complete("streamq dead ")) == {"groups", "list", "show", "requeue", "edit", "purge"}
    assert complete("streamq dead pur") == ["purge"]
    assert set(complete("streamq dead purge --")) >= {
        "--type",
        "--group",
        "--error",
        "--all",
        "--yes",
        "--url",
    }
    assert complete("streamq dead purge --dry") == ["--dry-run"]
    assert set(complete("streamq enqueue email {} --priority ")) == {"high", "normal", "low"}
    assert complete("streamq task list sched") == ["scheduled"]
    assert complete("streamq completion f") == ["fish"]
    assert set(complete("streamq tail --event c")) == {"completed", "cancelled"}
    # The value of an option is neither a command nor an argument by place.
    assert complete("streamq dead list --limit 5 --gr") == ["--group"]
    assert "email" in complete("streamq enqueue --delay 5m ")


def test_names_come_from_the_server(complete: Complete, shard: Shard, tmp_path: Path) -> None:
    for name in ("host-1-abc", "$(touch pwned)", "`touch pwned`"):
        shard.run(worker_calls.beat(shard.s, name, b"{}"))
    assert complete("streamq pause em") == ["email"]
    assert complete("streamq pause email em") == ["email"]
    assert complete("streamq dead list --type ") == ["email"]
    assert complete("streamq drain ") == ["host-1-abc"]
    assert not list(tmp_path.glob("**/pwned"))
    assert complete("streamq stats --app ") == ["shop"]


def test_a_server_that_is_not_there_costs_no_time(
    complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("redis://10.255.255.1", "embedded://", "nonsense"):
        monkeypatch.setenv("STREAMQ_URL", url)
        began = time.monotonic()
        assert complete("streamq pause em") == []
        assert time.monotonic() - began < 10


def test_files(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").touch()
    assert complete("streamq enqueue email --file tas") == ["tasks.jsonl"]
    if "bash" in str(complete("streamq completion ")):
        assert complete("streamq enqueue email --file=tas")[0].endswith("tasks.jsonl")


@pytest.mark.parametrize("shell", [pytest.param("bash", marks=pytest.mark.long), "zsh"])
def test_tab(shell: str, tmp_path: Path, shard: Shard) -> None:
    """What is typed reaches the command whole."""
    source, told = script(shell, tmp_path), tmp_path / "told"
    program = tmp_path / "bin" / "streamq"
    real = f"exec {shlex.quote(sys.executable)} -m streamq"
    real_if = f'{{ [ "$1" = completion ] || [ -n "$_ARGCOMPLETE" ]; }} && {real} "$@"'
    program.write_text(f'#!/bin/sh\n{real_if}\necho "$@" > {told}\n')
    begin = f"source {source}" if shell == "bash" else f"autoload -Uz compinit; compinit -u; source {source}"
    with Terminal(program=_INTERACTIVE[shell], environment=environment(tmp_path)) as terminal:
        terminal.press(f"PS1='ready''> '; {begin}\r")
        terminal.until("ready> ")
        terminal.press("streamq dea\tpur\t--ty\tem\t--dr\t\r")
        deadline = time.monotonic() + 20
        while not told.exists() or not told.read_text():
            assert time.monotonic() < deadline, terminal.seen
            terminal.read()
    assert told.read_text().split() == ["dead", "purge", "--type", "email", "--dry-run"]


def test_every_command_can_be_completed() -> None:
    for name in COMMANDS:
        found: Any = CompletionFinder(completion.parser_of(["streamq", name]))
        words: list[str] = found._get_completions(["streamq", name], "--hel", "", None)
        assert [word.strip() for word in words] == ["--help"], name


def test_wrong_input(capsys: Capture) -> None:
    code, _, told = run(capsys, "completion")
    assert code == 2
    assert "shell" in told
    assert run(capsys, "completion", "tcsh")[0] == 2
