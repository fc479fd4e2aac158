"""Which settings are in force, where each comes from, and that no password is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import streamq
from streamq import StreamQ, environment, printable
from tests.cli.conftest import Capture, as_json, run

CODE = """
from streamq import StreamQ
app = StreamQ("shop", {server}shards=3)

@app.task(max_attempts=9, rate_limit="100/1m", lease=10)
def email(to: str) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in environment.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def settings(capsys: Capture, *args: str) -> dict[str, tuple[Any, str]]:
    found = as_json(capsys, "config", "show", *args)["settings"]
    return {one["name"]: (one["value"], one["source"]) for one in found}


def test_option_environment_and_default(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(capsys)
    assert found["server"] == ("redis://localhost:6379/0", "default")
    assert found["metrics_host"] == ("127.0.0.1", "default")
    assert found["worker.concurrency"] == (100, "default")
    monkeypatch.setenv("STREAMQ_URL", "redis://ada:secret@queue/1")
    monkeypatch.setenv("STREAMQ_METRICS_PORT", "9191")
    found = settings(capsys, "--app", "shop")
    assert found["server"] == ("redis://queue:6379/1", "environment")
    assert found["metrics_port"] == ("9191", "environment")
    assert found["app"] == ("shop", "option")
    assert settings(capsys, "--url", "rediss://other")["server"] == ("rediss://other:6379/0", "option")
    _, out, _ = run(capsys, "config", "show")
    assert "secret" not in out
    assert re.search(r"^server +redis://queue:6379/1 +environment +--url, STREAMQ_URL$", out, re.MULTILINE)


def test_the_app_s_code(capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config_code.py").write_text(CODE.format(server='"redis://:hidden@code/2", '))
    (folder / "config_plain.py").write_text(CODE.format(server=""))
    found = settings(capsys, "config_code:app")
    assert found["code.server"] == ("redis://code:6379/2", "code")
    assert found["code.shards"] == (3, "code")
    assert found["email.max_attempts"] == (9, "code")
    assert found["email.rate_limit"] == ("100/60s", "code")
    assert found["email.lease"] == (10.0, "code")  # as it is by default, and stated all the same
    assert found["email.timeout"] == (30.0, "default")
    assert found["email.retry_on"] == (["Exception"], "default")
    assert settings(capsys, "config_plain:app")["code.server"] == ("redis://localhost:6379/0", "default")
    monkeypatch.setenv("STREAMQ_URL", "redis://there")
    assert StreamQ("shop").url_from == "environment"


def test_what_cannot_be_used_is_told_of(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMQ_URL", "redis://ada:sec/ret@queue/1")
    monkeypatch.setenv("STREAMQ_METRICS_PORT", "many")
    monkeypatch.setenv("STREAMQ_TRACING", "loudly")
    code, out, _ = run(capsys, "config", "show")
    assert code == 78
    assert "%2F" in out
    assert "'many' is not a port" in out
    assert "loudly" in out
    assert "sec" not in out.replace("seconds", "")
    code, _, err = run(capsys, "config", "show", "no_such_module:app")
    assert (code, "there is no module 'no_such_module' here" in err) == (78, True)
    assert run(capsys, "config") == run(capsys, "config", "show")


def test_what_is_as_by_default_is_left_out(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "config_short.py").write_text(CODE.format(server=""))
    monkeypatch.setenv("STREAMQ_METRICS_PORT", "9191")
    code, out, err = run(capsys, "config", "config_short:app")
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert code == 0
    assert {"server", "metrics_port", "code.app", "email.max_attempts", "email.lease"} <= set(names)
    assert "email.timeout" not in names
    _, everything, nothing = run(capsys, "config", "show", "config_short:app", "--all")
    assert "email.timeout" in everything
    assert f"{everything.count(chr(10)) - out.count(chr(10))} more have their default: --all" in err
    assert "--all" not in nothing


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ada:secret@h/0", "redis://***@h/0"),
        ("redis://ada:sec/ret@h", "redis://***@h"),
        ("cannot reach redis://ada:secret@h: why", "cannot reach redis://***@h: why"),
        ("redis://h?password=secret&db=1", "redis://h?password=***&db=1"),
        ("redis+sentinel://h/m?sentinel_password=secret", "redis+sentinel://h/m?sentinel_password=***"),
        ("redis://a:s@b@h", "redis://***@h"),
        ("9191", "9191"),
    ],
)
def test_passwords_are_hidden(text: str, shown: str) -> None:
    assert printable.masked(text) == shown


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2", "redis://h/hunter2", "hunter2", "ada:hunter2@h", "redis://h?db=hunter2", "hunter2://h",
     "redis://a:hunter2 b@h:x"],
)  # fmt: skip
def test_a_malformed_url_is_not_shown(capsys: Capture, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for args in (["config", "show"], ["config", "show", "--json"], ["stats"], ["dev", "a:b", "--url", url]):
        monkeypatch.setenv("STREAMQ_URL", url)
        code, out, err = run(capsys, *args)
        assert code == 78
        assert "hunter2" not in out + err


@pytest.mark.parametrize(
    "args",
    [["stats", "--ulr", "redis://ada:hunter2@h"], ["stats", "--ulr=redis://ada:hunter2@h"],
     ["stats", "redis://ada:hunter2@h"], ["dashboard", "--atuh", "basic:ada:hunter2"],
     ["redis://ada:hunter2@h"], ["dead", "requeue", "redis://ada:hunter2@h"]],
)  # fmt: skip
def test_a_slip_of_the_hand_shows_no_password(capsys: Capture, args: list[str]) -> None:
    code, out, err = run(capsys, *args)
    assert code != 0
    assert "hunter2" not in out + err


def test_there_is_one_table_of_variables() -> None:
    """Every variable that the package names is in it, and only it spells them as values."""
    known = {variable.name for variable in environment.VARIABLES}
    package = Path(streamq.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert set(re.findall(r"STREAMQ_[A-Z_]*[A-Z]", text)) <= known, path
        if path.name not in ("environment.py", "record.py"):  # record.py is copied to where streamq is not
            assert not re.search(r"""["']STREAMQ_[A-Z_]+["']""", text), path
