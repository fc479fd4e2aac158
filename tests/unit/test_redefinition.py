"""A handler registered anew: the same function once more, or a different one under a taken name."""

from __future__ import annotations

import functools
import importlib
import os
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamq import DuplicateTaskType, StreamQ
from streamq.registry.redefinition import importable, moved

HEAD = "from streamq import StreamQ\napp = StreamQ('shop', 'unix:///nowhere.sock')\n"


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", "unix:///nowhere.sock")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        for one in [one for one in sys.modules if one == name]:
            monkeypatch.delitem(sys.modules, one)

    return write


def answer(app: StreamQ, name: str = "email") -> Any:
    return app.registry.handlers[name].function(*())


TASKS = """
    from shared_app import app
    {decorator}
    def email():
        return {value}
"""


@pytest.mark.parametrize(
    "decorator", ["@app.task", "@app.task(max_attempts=3)\n    @deco", "@app.task\n    @plain"]
)
def test_a_reloaded_module_takes_the_place_of_what_it_was(
    module: Callable[[str, str], None], decorator: str, tmp_path: Path
) -> None:
    module("shared_app", HEAD)
    module(
        "decorators",
        """
        import functools
        def deco(function):
            @functools.wraps(function)
            def inner():
                return function()
            return inner
        def plain(function):
            def email():
                return function()
            return email
        """,
    )
    text = "from decorators import deco, plain\n" + textwrap.dedent(TASKS)
    module("reloaded", text.format(decorator=textwrap.dedent(decorator.replace("\n    ", "\n")), value=1))
    found = importlib.import_module("reloaded")
    assert answer(found.app) == 1
    importlib.reload(found)
    (tmp_path / "reloaded.py").write_text(
        "import sys\n" + text.format(decorator=decorator.replace("\n    ", "\n"), value=2)
    )
    importlib.reload(found)
    assert answer(found.app) == 2
    del sys.modules["reloaded"]
    assert importlib.import_module("reloaded").email.handler is found.app.registry.handlers["email"]


def test_a_module_run_as_a_program_too(
    module: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module("shared_app", HEAD)
    module("twice", TASKS.format(decorator="@app.task", value=1))
    app = importlib.import_module("twice").app
    runpy.run_module("twice", run_name="__main__")
    runpy.run_path(str(tmp_path / "twice.py"), run_name="__main__")
    assert list(app.registry.handlers) == ["email"]


def test_two_modules_with_one_name_are_two(module: Callable[[str, str], None]) -> None:
    module("shared_app", HEAD)
    module("one", TASKS.format(decorator="@app.task", value=1))
    module("two", TASKS.format(decorator="@app.task", value=1))
    importlib.import_module("one")
    with pytest.raises(DuplicateTaskType, match=r"\(one:email, one.py:3\): give two:email, two.py:3 another"):
        importlib.import_module("two")


def test_two_functions_of_one_module_are_two(module: Callable[[str, str], None]) -> None:
    module("shared_app", HEAD)
    module(
        "copied",
        TASKS.format(decorator="@app.task", value=1) + "    @app.task\n    def email():\n        return 2\n",
    )
    with pytest.raises(DuplicateTaskType):
        importlib.import_module("copied")


def cell(text: str, namespace: dict[str, Any], number: int) -> None:
    exec(compile(textwrap.dedent(text), f"<ipython-input-{number}>", "exec"), namespace)  # noqa: S102


def test_a_cell_of_a_notebook_is_run_again(app: StreamQ) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "app": app}
    first = "@app.task\ndef email():\n    return {}"
    cell(first.format(1), namespace, 1)
    cell(first.format(1), namespace, 1)  # as it was
    cell(first.format(2), namespace, 2)  # with other code
    assert answer(app) == 2
    with pytest.raises(DuplicateTaskType):
        cell("@app.task(name='email')\ndef other():\n    return 3", namespace, 3)
    cell(
        "def make(n):\n    @app.task(name='made')\n    def inner():\n        return n\nmake(1)", namespace, 4
    )
    cell("make(1)", namespace, 5)
    namespace["fresh"] = StreamQ("shop", "unix:///nowhere.sock")


def test_closures_are_what_they_enclose(app: StreamQ) -> None:
    def make(n: int, name: str) -> None:
        @app.task(name=name)
        def inner() -> int:
            return n

    make(1, "a")
    make(1, "a")
    with pytest.raises(DuplicateTaskType):
        make(2, "a")

    def recursive() -> None:
        @app.task(name="r")
        def inner(left: int = 3) -> int:
            return inner.handler.function(left - 1) if left else 0

    recursive()
    recursive()


def test_lambdas_are_their_code(app: StreamQ) -> None:
    for _ in range(2):
        app.task(name="one")(lambda: 1)
    with pytest.raises(DuplicateTaskType):
        app.task(name="one")(lambda: 2)
    for n in (1, 1):
        app.task(name="default")(lambda n=n: n)
    with pytest.raises(DuplicateTaskType):
        app.task(name="default")(lambda n=2: n)


class Sender:
    def __init__(self, host: str) -> None:
        self.host = host

    def __call__(self) -> str:
        return self.host

    def send(self) -> str:
        return self.host


def test_partials_methods_and_objects(app: StreamQ) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    same: list[tuple[Any, Any, Any]] = [
        (functools.partial(add, 1), functools.partial(add, 1), functools.partial(add, 2)),
        (Sender("a"), Sender("a"), Sender("b")),
        (Sender("a").send, Sender("a").send, Sender("b").send),
        (add, add, lambda a, b: a + b),
    ]
    for n, (one, again, other) in enumerate(same):
        app.task(name=f"t{n}")(one)
        app.task(name=f"t{n}")(again)
        with pytest.raises(DuplicateTaskType):
            app.task(name=f"t{n}")(other)


def test_the_last_policy_counts(app: StreamQ) -> None:
    def work() -> None: ...

    app.task(work)
    app.task(max_attempts=9)(work)
    assert app.registry.handlers["work"].options.max_attempts == 9


@pytest.mark.parametrize(
    ("before", "now", "other"),
    [
        ("shop:email", "shop:email", False),
        ("__main__:email", "shop:email", False),  # an older release says so
        ("tasks:email", "shop.tasks:email", False),
        ("shop.tasks:email", "tasks:email", False),
        ("shop:email", "shop:mail", True),
        ("shop.tasks:email", "stock.tasks:email", True),
        ("shoptasks:email", "tasks:email", True),
        ("damaged", "tasks:email", True),
    ],
)
def test_which_handlers_are_two(before: str, now: str, other: bool) -> None:
    assert moved(before, now) is other


@pytest.mark.parametrize("how", [["shop.py"], ["-m", "shop"]])
def test_a_program_is_known_by_its_module(tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "shop.py").write_text(
        HEAD + "from streamq.registry.redefinition import importable\n@app.task\ndef email(): ...\n"
        "if __name__ == '__main__':\n    print(importable(email.handler.reference))\n"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(
        [sys.executable, *how], cwd=tmp_path, env=here, capture_output=True, text=True, check=True
    )
    assert said.stdout == "shop:email\n"
    assert importable("shop.tasks:email") == "shop.tasks:email"
