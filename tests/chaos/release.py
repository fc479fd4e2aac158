"""The previous release's code, laid out beside the present one for rolling deploys.

Owns the checkout. `previous.txt` names the commit; where git or the commit is not to be had, there is no
previous release, and deploys are not drawn.
"""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

from tests.chaos.plan import Topology

ROOT = Path(__file__).resolve().parents[2]
TOPOLOGIES: Final[tuple[Topology, ...]] = ("single", "sentinel", "cluster")
"""What the previous release can connect to."""
COMMIT = (Path(__file__).parent / "previous.txt").read_text().strip()


def check_out(folder: Path, topology: Topology) -> Path | None:
    """Lay the previous release's package out in `folder`; what to put first on PYTHONPATH, or None."""
    if topology not in TOPOLOGIES:
        return None
    try:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", COMMIT, "streamq"], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    target = folder / "previous"
    with tarfile.open(fileobj=BytesIO(archive)) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        packed.extractall(target)  # noqa: S202 - from our own history
    return target
