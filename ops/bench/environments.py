"""One environment for each system, made at first use from the pinned list in requirements/.

Owns these folders. streamq and the bare loop share one, with this checkout installed in it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SHARED: Final = {"bare": "streamq"}


def python_of(system: str, base: Path) -> list[str]:
    """The command that runs a system's adapter."""
    if system == "bullmq":
        return ["node", str(_node(base / system) / "bullmq_.mjs")]
    name = SHARED.get(system, system)
    return [str(_python(name, base / name)), str(HERE / "adapters" / f"{system}_.py")]


def _python(name: str, folder: Path) -> Path:
    listed = HERE / "requirements" / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    wanted = hashlib.sha256(listed.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        sys.stderr.write(f"making the environment of {name} in {folder}\n")
        venv.create(folder, clear=True, with_pip=True)
        own = ["-e", str(HERE.parent.parent)] if name == "streamq" else []
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", listed, *own], check=True)
        stamp.write_text(wanted)
    return python


def _node(folder: Path) -> Path:
    """Node finds packages beside the program, so the adapter is copied there."""
    folder.mkdir(parents=True, exist_ok=True)
    package = HERE / "requirements" / "bullmq" / "package.json"
    if not (folder / "node_modules").exists() or package.read_text() != (folder / "package.json").read_text():
        shutil.copy(package, folder)
        subprocess.run(["npm", "install", "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(HERE / "adapters" / "bullmq_.mjs", folder)
    return folder
