"""What is installed with us: the image's locks fit pyproject.toml, and known advisories are looked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "ops" / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = re.findall(r"--extra ([a-z]+)", (DOCKER / "lock").read_text())
WANTED = PROJECT["project"]["dependencies"] + [
    one for extra in EXTRAS for one in PROJECT["project"]["optional-dependencies"][extra]
]


def locked(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (DOCKER / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


@pytest.mark.parametrize(
    ("name", "wanted"), [("requirements.lock", WANTED), ("build.lock", PROJECT["build-system"]["requires"])]
)
def test_the_lock_fits_what_the_project_asks_for(name: str, wanted: list[str]) -> None:
    """Else: run ops/docker/lock."""
    have = locked(name)
    for one in map(Requirement, wanted):
        assert one.specifier.contains(have[canonicalize_name(one.name)]), f"{one}: run ops/docker/lock"


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_locked_package_has_hashes(name: str) -> None:
    packages = re.split(r"\n(?=[a-z])", (DOCKER / name).read_text().split("\n", 2)[2])
    assert len(packages) == len(locked(name))
    assert all("--hash=sha256:" in package for package in packages)


def test_the_image_installs_nothing_but_what_is_locked() -> None:
    lines = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    installs = [part for line in lines for part in re.findall(r"pip install ([^&]+)", line)]
    assert len(installs) == 3
    assert all("--require-hashes" in one or "--no-deps --no-index" in one for one in installs)


def test_the_audit_does_not_fail_where_its_database_is_out_of_reach() -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, str(ROOT / ".ci" / "audit")]
    ran = subprocess.run(
        command, env=os.environ | nowhere, capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "lower bounds: not audited" in ran.stdout or "could be looked up" in ran.stdout


def test_the_audit_tells_a_known_advisory(tmp_path: Path) -> None:
    """With an auditor that knows one, as the lookup itself needs the network."""
    report = (
        '{"dependencies": [{"name": "x", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}'
    )
    (tmp_path / "pip-audit").write_text(f"#!/bin/sh\necho '{report}'\nexit 1\n")
    (tmp_path / "pip-audit").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = [sys.executable, str(ROOT / ".ci" / "audit")]
    ran = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "x 1: CVE-1, fixed in 2" in ran.stdout) == (1, True)


@pytest.mark.long  # `.ci/run` does the same
def test_the_body_holds_nothing_that_the_scanner_finds() -> None:
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", "streamq"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stdout
