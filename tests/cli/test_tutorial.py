"""ops/docs/site/tutorial.md, followed by a machine: every file, every command, and what they print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_dev import ROOT
from tests.ports import free_port

PAGE = (ROOT / "ops/docs/site/tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LIMIT = 300
"""Seconds of run time for a newcomer's machine."""


class Reader:
    """Does what the page says, in an empty folder."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        self.port = free_port()
        self.dev: subprocess.Popen[bytes] | None = None
        tools = folder.parent / "bin"  # `streamq` and `python` as in the reader's environment
        tools.mkdir()
        for name, command in (("streamq", "-m streamq"), ("python", "")):
            (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (tools / name).chmod(0o755)
        self.environment = {name: value for name, value in os.environ.items() if name != "STREAMQ_ENV"} | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{folder}",
            "STREAMQ_URL": f"redis://127.0.0.1:{self.port}/0",  # the page's reader has the usual port
            "STREAMQ_APP": "shop",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def save(self, name: str, text: str) -> None:
        """Save a file; once `streamq dev` runs, wait until its worker has the new code."""
        readies = self.said().count("worker.ready")
        (self.folder / name).write_text(text)
        if name == "shop.py" and self.dev is not None:
            self.until(lambda: self.said().count("worker.ready") > readies)
        elif name == "shop.py":
            self.begin()

    def begin(self) -> None:
        assert "\nstreamq dev shop:app\n" in PAGE
        ports = ["--server-port", str(self.port), "--port", str(free_port())]
        with self.log.open("wb") as out:
            self.dev = subprocess.Popen(
                ["streamq", "dev", "shop:app", *ports], cwd=self.folder, env=self.environment, stdout=out,
                stderr=out, start_new_session=True, executable=str(self.folder.parent / "bin/streamq"),
            )  # fmt: skip
        self.until(lambda: "worker.ready" in self.said())

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def until(self, condition: object) -> None:
        deadline = time.monotonic() + 60
        while not condition():  # type: ignore[operator]
            assert self.dev is not None
            assert self.dev.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def run(self, script: str) -> str:
        """Run the commands of a block; return what they print."""
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=self.folder, env=self.environment, capture_output=True,
            text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{self.said()}"
        return done.stdout

    def end(self) -> int:
        assert self.dev is not None
        self.dev.send_signal(signal.SIGINT)
        return self.dev.wait(40)

    def kill(self) -> None:
        if self.dev is not None and self.dev.poll() is None:
            os.killpg(self.dev.pid, signal.SIGKILL)
            self.dev.wait()


@pytest.mark.timeout(LIMIT * 2)
def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    reader = Reader(folder, tmp_path / "dev.log")
    began = time.monotonic()
    try:
        follow(reader)
        assert reader.end() == 0
    finally:
        reader.kill()
    assert time.monotonic() - began < LIMIT
    ledger = (folder / "ledger.txt").read_text().splitlines()
    charged = {line.split()[0] for line in ledger}
    assert charged >= {"3", "5", *map(str, range(100, 120))}
    assert len({line.split()[2] for line in ledger if line.startswith("5 ")}) == 1
    assert "mail to ada@example.com" in reader.said()


def follow(reader: Reader) -> None:
    files, commands = 0, 0
    for (language, text), (below, printed) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if language in ("python", "toml"):
            name = re.match(r"# (\S+)\n", text)
            assert name is not None
            reader.save(name[1], text)
            files += 1
        elif language == "sh":
            out = reader.run(text)
            commands += 1
            if below == "text":
                assert out == printed, text
    assert (files, commands) == (7, 10)
