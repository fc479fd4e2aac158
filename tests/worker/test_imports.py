"""Task types in modules that nobody imported: named by the app or an option, told of where they are not."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from streamq import Address, InvalidOption, StreamQ, UnknownTaskType, UsageError, Worker, WorkerOptions
from streamq.calls import producer as producer_calls
from streamq.cli import main
from streamq.keys import shard_keys, type_keys
from streamq.transport.sync_transport import SyncTransport
from streamq.wording import listed, shortened
from streamq.worker.loading import load_app
from streamq.worker.served_types import served_types
from tests.running import working

Write = Callable[[str, str], None]
APP = "from streamq import StreamQ\napp = StreamQ('shop', 'unix:///nowhere.sock'{more})\n"
MAILS = "from {package}.app import app\n@app.task(max_attempts=3)\nasync def email(to: str) -> None: ...\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose app has its task types in other modules; its name."""
    name = f"shop_{os.urandom(4).hex()}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write(name, "__init__", "")
    write(name, "app", APP.format(more=""))
    write(name, "mails", MAILS.format(package=name))
    write(f"{name}/jobs", "__init__", "")
    write(f"{name}/jobs", "images", MAILS.format(package=name).replace("email", "resize"))
    write(name, "plain", "# @app.task is only mentioned here\n")
    importlib.invalidate_caches()
    yield name
    for one in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[one]


def write(folder: str, name: str, text: str) -> None:
    Path(folder).mkdir(exist_ok=True)
    (Path(folder) / f"{name}.py").write_text(text)


def test_a_worker_imports_what_its_app_names(package: str) -> None:
    write(package, "app", APP.format(more=f", imports=['{package}.mails', '{package}.jobs.images']"))
    app = importlib.import_module(f"{package}.app").app
    assert app.registry.handlers == {}  # a producer does not pay for it
    assert Worker(app)._config.types == ["email", "resize"]
    assert list(load_app(f"{package}.app").registry.handlers) == ["email", "resize"]


def test_an_option_names_more(package: str) -> None:
    app = load_app(f"{package}.app", [f"{package}.mails"])
    assert served_types(app.registry, WorkerOptions()) == ["email"]


def test_where_task_types_are_missing_the_modules_are_named(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = load_app(f"{package}.app")
    names = f"imports=\\['{package}.jobs.images', '{package}.mails'\\]"
    with pytest.raises(UsageError, match=rf"no task types: .*{names}\) or --import {package}.jobs.images"):
        served_types(app.registry, WorkerOptions())
    importlib.import_module(f"{package}.jobs.images")
    with pytest.raises(
        UnknownTaskType, match=rf"no task type 'email'; it has: resize: .*--import {package}.mails"
    ):
        served_types(app.registry, WorkerOptions(types=("email",)))
    assert main(["worker", f"{package}.app", "--types", "email"]) == 78
    assert f"'{package}.mails'" in capsys.readouterr().err  # from a new process, which has imported neither


def test_an_app_that_nobody_can_place_says_what_there_is() -> None:
    with pytest.raises(UsageError, match="decorate a function with @app.task, and name its module"):
        served_types(StreamQ("shop", "unix:///nowhere.sock").registry, WorkerOptions())


def test_commands_that_import_an_app(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", f"{package}.app", "--import", f"{package}.mails", "--json"]) == 0
    names = {one["name"]: one["value"] for one in json.loads(capsys.readouterr().out)["settings"]}
    assert names["email.max_attempts"] == 3
    for command in ("worker", "dev", "config"):
        words = [command, "show"] if command == "config" else [command]
        assert main([*words, f"{package}.app", "--import", "no/such"]) != 0
        assert "is not the name of a module" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["shop.mails", ["shop/mails"], [".mails"], [""], [5]])
def test_what_is_no_module(wrong: object) -> None:
    with pytest.raises(InvalidOption, match="imports=|is not the name of a module"):
        StreamQ("shop", "unix:///nowhere.sock", imports=wrong)  # type: ignore[arg-type]


def test_a_module_that_is_not_there(package: str) -> None:
    with pytest.raises(UsageError, match=r"no module .*mailz' here: check imports=\[\.\.\.\] and --import"):
        load_app(f"{package}.app", [f"{package}.mailz"])
    write(package, "app", APP.format(more="").replace("app =", "queue ="))
    sys.modules.pop(f"{package}.app")
    with pytest.raises(UsageError, match=f"called 'app': write {package}.app:queue"):
        load_app(f"{package}.app")


def test_a_worker_group_and_its_processes_serve_them(package: str, url: str, tmp_path: Path) -> None:
    write(package, "app", APP.format(more="").replace("'unix:///nowhere.sock'", "None"))
    args = [f"{package}.app", "--import", f"{package}.mails,{package}.jobs.images", "--url", url]
    root = str(Path(__file__).parents[2])
    worker = subprocess.Popen(
        [sys.executable, "-m", "streamq", "worker", *args, "--log-format", "json", "--log-level", "error"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stderr is not None
    try:
        told = json.loads(worker.stderr.readline())  # also where only errors are to be told
        assert (told["event"], told["types"]) == ("worker.ready", ["email", "resize"])
    finally:
        worker.terminate()
        worker.communicate(timeout=30)
    assert worker.returncode == 0


def test_long_lists_are_shortened() -> None:
    names = [f"t{n:04}" for n in range(1000)]
    assert shortened(names, 2) == ["t0000", "t0001", "and 998 more"]
    assert listed(names, 2) == "t0000, t0001 and 998 more"
    assert listed(["b", "a"]) == "a, b"
    assert listed(names[:13], 12).count(",") == 12
    assert listed([]) == "none"


@pytest.mark.parametrize(
    ("before", "warned"), [("__main__:email", False), ("{stem}:email", False), ("stock.tasks:email", True)]
)
async def test_a_worker_warns_only_where_the_handler_is_another(
    app: StreamQ, url: str, before: str, warned: bool
) -> None:
    app.task(email)
    keys = type_keys("shop", 0, "email"), shard_keys("shop", 0)
    transport = SyncTransport(Address.parse(url))
    transport.run(producer_calls.register(*keys, before.format(stem=__name__.rpartition(".")[2]), {}))
    transport.close()
    with structlog.testing.capture_logs() as lines:
        async with working(app):
            pass
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == (
        ["type.handler_changed"] if warned else []
    )


async def email() -> None: ...
