"""compose.yaml as far as it can be checked without an engine: it parses, and its commands are ours."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamq import environment
from streamq.cli import COMMANDS
from streamq.dashboard import Basic
from streamq.dashboard.auth import parse
from streamq.worker.loading import load_app

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


def test_the_dashboard_wants_a_login_and_is_published_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    service = COMPOSE["services"]["dashboard"]
    name, *args = [part.replace("$$", "$") for part in service["command"]]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    module: Any = importlib.import_module(f"streamq.cli.{name}")
    module.arguments(parser)
    parsed = parser.parse_args(args)
    monkeypatch.setenv("STREAMQ_DASHBOARD_PASSWORD", "one of mine")
    [entry] = parsed.auth
    assert parse(entry) == Basic("admin", "one of mine", "admin")
    assert service["ports"] == [f"127.0.0.1:{parsed.port}:{parsed.port}"]
    assert service["healthcheck"]["test"] == ["CMD", "streamq", "check", "--port", str(parsed.port)]
    assert parsed.app == load_app(COMPOSE["services"]["worker-1"]["command"][1]).registry.name


def test_no_password_has_a_default() -> None:
    """Compose refuses to start without one; Grafana's `admin` cannot log in at all."""
    secrets = {
        name: str(value)
        for service in COMPOSE["services"].values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|TOKEN|SECRET", name)
    }
    assert secrets
    assert all(re.fullmatch(r"\$\{\w+:\?.+\}", value) for value in secrets.values())
    grafana = COMPOSE["services"]["grafana"]["environment"]
    assert grafana["GF_AUTH_BASIC_ENABLED"] == "false"
    assert grafana["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_observability_profile_scrapes_what_runs() -> None:
    services = COMPOSE["services"]
    assert [name for name, one in services.items() if "profiles" in one] == ["prometheus", "grafana"]
    scraped = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yaml").read_text())["scrape_configs"]
    targets = {t for job in scraped for config in job["static_configs"] for t in config["targets"]}
    port = services["worker-1"]["environment"]["STREAMQ_METRICS_PORT"]
    assert targets == {f"{name}:{port}" for name in services if name.startswith(("worker", "daemon"))}
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        mounted = [volume.split(":")[0] for volume in services[name]["volumes"] if volume[0] == "."]
        assert all((ROOT / path).is_dir() for path in mounted)


def test_the_image_runs_unprivileged_and_says_how_it_is() -> None:
    lines = (ROOT / "ops/docker/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    said = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if line and line[0] != "#"}
    assert said["USER"] == "10001"
    assert json.loads(said["ENTRYPOINT"]) == ["tini", "-s", "--", "streamq"]
    assert all(one.get("init") for one in COMPOSE["services"].values() if one.get("image") == "streamq")
    _, _, probe = said["HEALTHCHECK"].partition("CMD ")
    assert json.loads(probe) == ["streamq", "check"]
    assert f"{environment.HEALTH_SOCKET.name}=/tmp/streamq.sock" in said["ENV"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"--extra ([a-z]+)", (ROOT / "ops/docker/lock").read_text())
    assert {"dashboard", "metrics"} <= set(named) <= extras.keys()
