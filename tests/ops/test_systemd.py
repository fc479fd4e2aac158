"""The units, as systemd itself reads them, and their commands, as streamq does."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

UNITS = Path(__file__).resolve().parents[2] / "ops" / "systemd"
ANALYZE = shutil.which("systemd-analyze")


def read(name: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name)
    return parser


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze on the PATH")
@pytest.mark.parametrize(
    "name", ["streamq-worker@.service", "streamq-daemon.service", "streamq-dashboard.service"]
)
def test_systemd_finds_no_fault(name: str, tmp_path: Path) -> None:
    text = (UNITS / name).read_text()
    path = tmp_path / name.replace("@", "@shop")
    # The program and the user of a host that has been set up.
    path.write_text(
        text.replace("/opt/streamq/bin/streamq", sys.executable).replace("User=streamq", "User=daemon")
    )
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "streamq" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize(
    ("name", "role"), [("streamq-worker@.service", "worker"), ("streamq-daemon.service", "daemon")]
)
def test_a_units_command_is_ours_and_gets_time_to_drain(name: str, role: str) -> None:
    service = read(name)["Service"]
    line = service["ExecStart"].replace("$WORKER_OPTIONS", "--processes 2 --concurrency 100")
    _, command_name, *args = shlex.split(line)
    assert command_name == role
    command: Any = importlib.import_module(f"streamq.cli.{role}")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.arguments(parser)
    parsed = parser.parse_args(args)
    assert parsed.health_socket.startswith(f"/run/{service['RuntimeDirectory']}/".replace("%i", "%i"))
    if role == "worker":
        minutes = re.fullmatch(r"(\d+)m", parsed.drain_timeout)
        assert minutes
        assert int(service["TimeoutStopSec"]) > int(minutes[1]) * 60
    assert service["Type"] == "notify"
    assert "78" in service["RestartPreventExitStatus"].split()


def test_the_dashboards_unit_starts_it_on_loopback() -> None:
    service = read("streamq-dashboard.service")["Service"]
    _, name, *args = shlex.split(service["ExecStart"].replace("$DASHBOARD_OPTIONS", "--read-only"))
    command: Any = importlib.import_module(f"streamq.cli.{name}")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.arguments(parser)
    parsed = parser.parse_args(args)
    assert (parsed.host, parsed.read_only) == ("127.0.0.1", True)
    assert "78" in service["RestartPreventExitStatus"].split()
