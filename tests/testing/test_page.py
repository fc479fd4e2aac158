"""The page about testing: its files, run as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "ops/docs/site/testing.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
INI = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_programs_run(tmp_path: Path) -> None:
    assert len(FILES) == 3
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").write_text("".join(INI))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert "8 passed" in found.stdout, found.stdout + found.stderr
