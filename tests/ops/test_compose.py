"""compose.yaml as far as it can be checked without an engine: it parses, and its commands are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamq.cli import COMMANDS
from streamq.worker.group import load_app

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_the_server_keeps_what_it_acknowledged() -> None:
    server = COMPOSE["services"]["valkey"]
    command = dict(zip(server["command"][1::2], server["command"][2::2], strict=True))
    assert command["--appendonly"] == "yes"
    assert command["--maxmemory-policy"] == "noeviction"
    assert server["healthcheck"]["test"][-1] == "ping"


@pytest.mark.parametrize("name", ["worker-1", "worker-2", "daemon-1", "daemon-2"])
def test_workers_and_daemons_share_one_image(name: str) -> None:
    service = COMPOSE["services"][name]
    assert (service["image"], service["command"][0] in COMMANDS) == ("streamq", True)
    assert (ROOT / service["build"]["dockerfile"]).exists()
    assert service["environment"]["STREAMQ_URL"] == "redis://valkey:6379/0"
    assert service["depends_on"]["valkey"]["condition"] == "service_healthy"


def test_the_workers_app_exists_and_they_get_time_to_drain() -> None:
    worker = COMPOSE["services"]["worker-1"]
    assert load_app(worker["command"][1]).registry.name == "demo"
    drain = worker["command"][worker["command"].index("--drain-timeout") + 1]
    assert int(worker["stop_grace_period"][:-1]) > int(drain[:-1])
