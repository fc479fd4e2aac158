"""What the README tells a newcomer, done as written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli import test_dev
from tests.cli.test_dev import ROOT, Session

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
start = test_dev.start  # the fixture


def test_the_first_minute(start: Callable[..., Session]) -> None:
    told = README.partition("## The first minute")[2].partition("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    assert "streamq dev tasks:app\n" in told
    session = start("--no-dashboard", code=code)
    session.until("worker.ready")
    url = f"redis://127.0.0.1:{session.port}/0"

    def streamq(*args: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "streamq", *args, "--url", url], capture_output=True, text=True,
            check=True, env={"PYTHONPATH": str(ROOT)},
        ).stdout  # fmt: skip

    [line] = re.findall(r"streamq enqueue greet '(.*?)'", told)
    task = streamq("enqueue", "greet", line).strip()
    session.until("worker    | greeting Ada")
    session.app.handle(task).result(timeout=10)
    assert '"Hello, Ada!"' in streamq("task", "show", task)
    [program] = re.findall(r"python -c '(.*?)'", told)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=session.folder, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT), "STREAMQ_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.stdout == "Hello, Bob!\n"
    assert session.end() == 0
