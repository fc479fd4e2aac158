"""Rules, alerts, dashboards and runbooks: checked by promtool, and against what streamq really has."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamq.cli import COMMANDS, load
from streamq.model.counts import COUNTERS
from streamq.telemetry.catalogue import METRICS
from tests.sample_names import base, exported

OPS = Path(__file__).resolve().parents[2] / "ops"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool on the PATH")


def groups(name: str) -> list[dict[str, Any]]:
    loaded = yaml.safe_load((OPS / "prometheus" / name).read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


ALERTS = groups("alerts.yaml")
RECORDED = {rule["record"] for rule in groups("rules.yaml")}
BOARDS = {path.stem: json.loads(path.read_text()) for path in (OPS / "grafana" / "dashboards").glob("*.json")}
RUNBOOKS = sorted((OPS / "runbooks").glob("*.md"))


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROMTOOL), *args], cwd=OPS / "prometheus", capture_output=True, text=True, check=False
    )


@needs_promtool
@pytest.mark.parametrize(
    "args",
    [
        ("check", "rules", "rules.yaml", "alerts.yaml"),
        ("check", "config", "prometheus.yaml"),
        ("test", "rules", "tests.yaml"),
    ],
)
def test_promtool_is_content(args: tuple[str, ...]) -> None:
    done = promtool(*args)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    tests = yaml.safe_load((OPS / "prometheus" / "tests.yaml").read_text())["tests"]
    names = {test["name"] for test in tests}
    assert names == {f"{alert['alert']} {what}" for alert in ALERTS for what in ("fires", "is quiet")}


def expressions() -> list[str]:
    rules = [rule["expr"] for rule in (*ALERTS, *groups("rules.yaml"))]
    return rules + [target["expr"] for board in BOARDS.values() for target in targets(board)]


def targets(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in board["panels"] for target in panel["targets"]]


def variables() -> list[str]:
    return [v["definition"] for board in BOARDS.values() for v in board["templating"]["list"]]


@pytest.mark.parametrize("expression", sorted({*expressions(), *variables()}))
def test_only_what_is_exported_is_asked_for(expression: str) -> None:
    names = re.findall(r"(?<![\w:])(streamq_\w+)", re.sub(r'"[^"]*"', '""', expression))
    recorded = re.findall(r"\w+:streamq_\w+:\w+", expression)
    assert names or recorded
    assert [name for name in names if not exported(name)] == []
    assert [name for name in recorded if name not in RECORDED] == []


@pytest.mark.parametrize("expression", sorted(expressions()))
def test_labels_are_those_of_the_metric(expression: str) -> None:
    for name, selector in re.findall(r"(?<![\w:])(streamq_\w+)\{([^}]*)\}", expression):
        for label in re.findall(r"(\w+)\s*[=!]~?", selector):
            assert label in {*METRICS[base(name)].labels, "instance", "le"}, (name, label)


@needs_promtool
def test_every_query_of_a_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"q:{n}:x", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for n, expression in enumerate(expressions())
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_whole() -> None:
    assert set(BOARDS) == {"overview", "workers"}
    source = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    for board in BOARDS.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["datasources"][0]["uid"]}
        cells = [
            (panel["gridPos"]["y"] + row, panel["gridPos"]["x"] + column)
            for panel in board["panels"]
            for row in range(panel["gridPos"]["h"])
            for column in range(panel["gridPos"]["w"])
        ]
        assert len(cells) == len(set(cells)), "panels overlap"


def test_every_metric_is_shown_or_watched() -> None:
    """What nobody looks at need not be exported; the books are, and these are asked for by hand."""
    asked = " ".join(expressions())
    unused = {name for name in METRICS if name not in asked}
    books = {f"streamq_tasks_{event}_total" for event in COUNTERS}  # exported whole, whatever panels show
    assert unused - books == {
        "streamq_workers_slots",
        "streamq_daemon_promoted_total",
        "streamq_daemon_last_round_timestamp_seconds",
        "streamq_queue_workers_desired",  # scalers ask for it
        "streamq_queue_more_types",  # the daemon logs it, and /backlog refuses what may be left out
    }


# -- runbooks --------------------------------------------------------------------------------------------


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    named = {alert["alert"]: alert["annotations"]["runbook_url"] for alert in ALERTS}
    assert sorted(named.values()) == [f"ops/runbooks/{path.name}" for path in RUNBOOKS]
    for alert, path in named.items():
        assert f"Alert: `{alert}`\n" in (OPS.parent / path).read_text()


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_tells_the_meaning_three_commands_and_the_fix(path: Path) -> None:
    text = path.read_text()
    parts = ["What it means", "First three commands", "Fix", "Prevention"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == parts
    commands = re.findall(r"```\n(.+?)```", text, re.DOTALL)[0].splitlines()
    assert len(commands) == 3


def commands() -> list[str]:
    found: set[str] = set()
    for path in RUNBOOKS:
        text = path.read_text()
        found.update(re.findall(r"^(streamq .+?)\s+#", text, re.MULTILINE))
        found.update(re.findall(r"`(streamq [^`]+)`", text))
    return sorted(found)


@pytest.mark.parametrize("line", commands())
def test_each_command_is_one_that_the_command_line_understands(line: str) -> None:
    _, name, *args = shlex.split(line)
    assert name in COMMANDS
    parser = argparse.ArgumentParser(allow_abbrev=False)
    load(name).arguments(parser)
    parser.parse_args(args)
