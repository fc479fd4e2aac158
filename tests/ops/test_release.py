"""What a release needs: the check of a wheel finds each fault, and the dry run says what is in the way."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(f"ci_{name}", str(ROOT / ".ci" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


WHEEL, RELEASE = load("wheel"), load("release")
PROJECT: dict[str, Any] = RELEASE.tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"streamq-{PROJECT['version']}.dist-info"
POINTS = "[console_scripts]\nstreamq = streamq.cli:main\n\n[pytest11]\nstreamq = streamq.testing.plugin\n"


def metadata() -> str:
    """As the build backend writes it."""
    lines = [
        "Metadata-Version: 2.4", "Name: streamq", f"Version: {PROJECT['version']}",
        f"Summary: {PROJECT['description']}", f"Requires-Python: {PROJECT['requires-python']}",
        f"License-Expression: {PROJECT['license']}", "Description-Content-Type: text/markdown",
        *(f"Provides-Extra: {name}" for name in PROJECT["optional-dependencies"]),
        *(f"Project-URL: {name}, {url}" for name, url in PROJECT["urls"].items()),
    ]  # fmt: skip
    page: str = (ROOT / PROJECT["readme"]).read_text()
    return "\n".join(lines) + "\n\n" + page


def wheel(folder: Path, change: Callable[[dict[str, bytes]], object]) -> list[str]:
    """The faults of a wheel that is right but for a change."""
    files = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "streamq").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {f"{INFO}/METADATA": metadata().encode(), f"{INFO}/entry_points.txt": POINTS.encode()}
    files[f"{INFO}/licenses/LICENSE"] = b"MIT"
    change(files)
    with zipfile.ZipFile(folder / "streamq.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return list(WHEEL.faults(folder / "streamq.whl"))


def test_a_wheel_that_is_right(tmp_path: Path) -> None:
    assert wheel(tmp_path, lambda files: None) == []


def replace(name: str, old: str, new: str) -> Callable[[dict[str, bytes]], object]:
    def change(files: dict[str, bytes]) -> None:
        assert old.encode() in files[f"{INFO}/{name}"]
        files[f"{INFO}/{name}"] = files[f"{INFO}/{name}"].replace(old.encode(), new.encode())

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda files: files.pop("streamq/lua/settle.lua"), "streamq/lua/settle.lua is missing"),
        (lambda files: files.pop("streamq/py.typed"), "streamq/py.typed is missing"),
        (lambda files: files.update({"tests/x.py": b""}), "tests/x.py does not belong there"),
        (lambda files: files.pop(f"{INFO}/licenses/LICENSE"), "the licence is missing"),
        (lambda files: files.pop(f"{INFO}/METADATA"), f"there is no {INFO}: the wheel is of another version"),
        (replace("METADATA", "thon: >=3.11", "thon: >=3.9"), "Requires-Python is '>=3.9', not '>=3.11'"),
        (replace("METADATA", "Provides-Extra: speed\n", ""), "the extras differ from those of pyproject"),
        (replace("METADATA", "URL: Source", "URL: S"), "the project's URLs differ from those of pyproject"),
        (replace("METADATA", "ce: MIT", "[x](LICENSE)"), "links that lead nowhere on an index page: LICENSE"),
        (replace("entry_points.txt", "g.plugin", "g"), "no entry point 'streamq = streamq.testing.plugin'"),
    ],
)  # fmt: skip
def test_a_wheel_with_a_fault(
    change: Callable[[dict[str, bytes]], object], fault: str, tmp_path: Path
) -> None:
    assert wheel(tmp_path, change) == [fault]


def test_what_is_in_the_way_of_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {("git", "status", "--porcelain"): " M README.md", ("git", "tag", "--list"): "v0.0.1 v0.1.0"}
    monkeypatch.setattr(RELEASE, "run", lambda *command: answers[command])
    project = {"version": "0.1.0", "urls": {"Source": "https://streamq.example/source"}}
    assert [one.partition(":")[0] for one in RELEASE.obstacles(project)] == [
        "the checkout has changes that are not committed",
        "the tag v0.1.0 exists",
        "CHANGELOG.md has no heading '## 0.1.0 - YYYY-MM-DD'",
        "project.urls",
    ]


def test_nothing_is_in_the_way_of_a_release_that_is_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(RELEASE, "run", lambda *command: "")
    monkeypatch.setattr(RELEASE, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [0.1.0] - 2027-01-31\n")
    assert (
        RELEASE.obstacles({"version": "0.1.0", "urls": {"Source": "https://git.streamq.org/streamq"}}) == []
    )


@pytest.mark.parametrize(
    "url",
    ["https://streamq.example", "https://example.com/x", "https://docs.invalid", "http://git.org", "x", ""],
)
def test_nothing_is_published_while_an_address_leads_nowhere(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        asked.append(command)
        return ""

    monkeypatch.setattr(RELEASE, "run", run)
    monkeypatch.setattr(RELEASE, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [0.1.0] - 2027-01-31\n")
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nversion = "0.1.0"\nurls = {{Docs = "https://a.org", Source = "{url}"}}'
    )
    monkeypatch.setattr("sys.argv", ["release", "--publish"])
    assert RELEASE.main() == 1
    assert f"in the way: project.urls: Source is {url}, which leads nowhere" in capsys.readouterr().out
    assert {command[0] for command in asked} == {"git"}  # nothing is checked, built, tagged or uploaded
    assert not any("--annotate" in command for command in asked)


def test_a_project_without_addresses_is_not_ready() -> None:
    assert RELEASE.placeholders(None) == ["project.urls is missing: the index page would lead nowhere"]


def test_a_release_without_its_checks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["release", "--publish", "--skip-checks"])
    with pytest.raises(SystemExit):
        RELEASE.main()
