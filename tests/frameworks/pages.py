"""Pages whose examples are files and commands: written to a folder, and run as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

SITE = Path(__file__).resolve().parents[2] / "ops/docs/site"
_FILE = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_files(page: str, folder: Path) -> list[str]:
    """Write each block that begins with a file's name; return the names. Their folders are packages."""
    names = []
    for name, text in _FILE.findall((SITE / page).read_text()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
        path.write_text(text)
        names.append(name)
    return names


def run_console(page: str, folder: Path, env: dict[str, str], number: int = 0) -> None:
    """Run the commands of a console block and compare what they print."""
    block = _CONSOLE.findall((SITE / page).read_text())[number]
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    assert parts
    for part in parts:
        line, _, expected = part.partition("\n")
        words = shlex.split(line)
        if words[0] == "python":
            words[0] = sys.executable
        elif words[0] == "streamq":
            words[:1] = [sys.executable, "-m", "streamq"]
        found = subprocess.run(
            words, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120
        )
        assert found.returncode == 0, f"{line}\n{found.stdout}{found.stderr}"
        assert found.stdout == expected, f"{line}\n{found.stdout}{found.stderr}"


def environment(url: str, **more: str) -> dict[str, str]:
    """The environment of a program of a page."""
    left_out = ("SITE_", "STREAMQ_", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"STREAMQ_URL": url} | more
