"""The manifests: built by kustomize, validated against Kubernetes' own schemas, and against streamq's CLI."""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streamq import environment
from streamq.dashboard import Basic
from streamq.dashboard.auth import parse
from streamq.dashboard.probes import PROBES
from streamq.options.checks import seconds
from streamq.worker.loading import load_app

KUBERNETES = Path(__file__).resolve().parents[2] / "ops" / "kubernetes"
KUBECTL = shutil.which("kubectl")
Manifest = dict[str, Any]


def documents(*paths: Path) -> list[Manifest]:
    return [one for path in paths for one in yaml.safe_load_all(path.read_text()) if one]


BASE = [KUBERNETES / "base" / name for name in yaml.safe_load(
    (KUBERNETES / "base" / "kustomization.yaml").read_text())["resources"]]  # fmt: skip


def named(kind: str, name: str) -> Manifest:
    return next(one for one in documents(*BASE) if (one["kind"], one["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("document", documents(*BASE), ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_kubernetes_would_take_it(document: Manifest) -> None:
    kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl on the PATH")
@pytest.mark.parametrize("folder", ["base", "overlays/production"])
def test_kustomize_builds_it(folder: str) -> None:
    built = subprocess.run(
        [str(KUBECTL), "kustomize", str(KUBERNETES / folder)], capture_output=True, text=True, check=True
    ).stdout
    found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built)}
    for (kind, _), one in found.items():
        if kind != "ScaledObject":
            kubernetes_validate.validate(one, "1.31", strict=True)
    worker = found["Deployment", "streamq-worker"]["spec"]
    if folder != "base":
        assert "replicas" not in worker  # the autoscaler's
        scaled = found["ScaledObject", "streamq-worker"]
        assert (
            scaled["metadata"]["namespace"] == found["Deployment", "streamq-worker"]["metadata"]["namespace"]
        )
        assert found["ConfigMap", "streamq"]["data"]["APP"] == "shop.tasks:app"
        assert found["ConfigMap", "streamq"]["data"]["STREAMQ_APP"] == "shop"
        assert f"app={found['ConfigMap', 'streamq']['data']['STREAMQ_APP']}" in str(
            scaled["spec"]["triggers"]
        )
        assert found["ConfigMap", "streamq"]["data"]["STREAMQ_METRICS_PORT"] == "9191"


def arguments(role: str, args: list[str]) -> argparse.Namespace:
    command: Any = importlib.import_module(f"streamq.cli.{role}")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.arguments(parser)
    return parser.parse_args(args)


def test_the_dashboard_wants_a_login_from_a_secret(tmp_path: Path) -> None:
    pod = named("Deployment", "streamq-dashboard")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    parsed = arguments("dashboard", container["args"][1:])
    [entry] = parsed.auth
    head, _, path = entry.partition("@")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folder, _, key = path.rpartition("/")
    assert (mounts["login"], key, volumes["login"]["secret"]) == (
        folder, "password", {"secretName": "streamq-dashboard"},
    )  # fmt: skip
    (tmp_path / key).write_text("correct horse")
    assert parse(f"{head}@{tmp_path / key}") == Basic("admin", "correct horse", "admin")
    assert container["ports"][0]["containerPort"] == parsed.port
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} <= set(PROBES)
    assert {probe["port"] for probe in probes} == {"http"}
    settings = named("ConfigMap", "streamq")["data"]
    assert settings[environment.APP.name] == load_app(settings["APP"]).registry.name


@pytest.mark.parametrize("role", ["worker", "daemon", "dashboard"])
def test_no_pod_is_root_or_can_write_where_it_should_not(role: str) -> None:
    pod = named("Deployment", f"streamq-{role}")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    secret = next(
        one["valueFrom"]["secretKeyRef"] for one in container["env"] if one["name"] == "STREAMQ_URL"
    )
    assert secret == {"name": "streamq-url", "key": role}


@pytest.mark.parametrize("role", ["daemon", "dashboard"])
def test_a_service_finds_its_pods(role: str) -> None:
    service, pods = named("Service", f"streamq-{role}"), named("Deployment", f"streamq-{role}")
    template = pods["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    [port] = service["spec"]["ports"]
    assert port["targetPort"] in [one["name"] for one in template["spec"]["containers"][0]["ports"]]


@pytest.mark.parametrize("role", ["worker", "daemon"])
def test_commands_probes_and_settings_are_ours(role: str) -> None:
    pod = named("Deployment", f"streamq-{role}")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    settings = named("ConfigMap", "streamq")["data"]
    args = [arg.replace("$(APP)", settings["APP"]) for arg in container["args"]]
    assert args[0] == role
    parsed = arguments(role, args[1:])
    if role == "worker":
        assert load_app(parsed.app).registry.name == "demo"
        assert pod["terminationGracePeriodSeconds"] > seconds(parsed.drain_timeout, "--drain-timeout")
    assert {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "readiness")} == {
        "/live",
        "/ready",
    }
    assert settings[environment.METRICS_PORT.name] == str(container["ports"][0]["containerPort"])
    assert {environment.METRICS_HOST.name, environment.HEALTH_SOCKET.name} <= settings.keys()


def test_the_autoscaler_asks_the_daemon_for_a_number_that_it_tells() -> None:
    [scaled] = documents(KUBERNETES / "overlays" / "production" / "autoscaler.yaml")
    [trigger] = scaled["spec"]["triggers"]
    service = named("Service", "streamq-daemon")
    assert trigger["type"] == "metrics-api"
    port = service["spec"]["ports"][0]["port"]
    assert trigger["metadata"]["url"].startswith(f"http://streamq-daemon.streamq.svc:{port}/backlog?app=")
    assert trigger["metadata"]["valueLocation"] == "backlog"
