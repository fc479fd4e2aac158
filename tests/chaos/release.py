"""The previous release's code, laid out beside the present one for rolling deploys.

Owns the checkout. `previous.txt` names the commits: of a release that knows lanes, unique keys and
schedules, and of one that does not, for runs of the plain types alone. Where git or the commit is not to be
had, there is no previous release, and deploys are not drawn.
"""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
COMMITS: Final = dict(
    line.split() for line in (Path(__file__).parent / "previous.txt").read_text().splitlines()
)
"""By what it knows, `featured` or `plain`."""


def check_out(folder: Path, commit: str) -> Path | None:
    """Lay the previous release's package out in `folder`; what to put first on PYTHONPATH, or None."""
    try:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, "streamq"], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    target = folder / "previous"
    with tarfile.open(fileobj=BytesIO(archive)) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        packed.extractall(target)  # noqa: S202 - from our own history
    return target
