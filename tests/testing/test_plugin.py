"""The pytest plugin in a project of its own, and the mixin for unittest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = """
from streamq import StreamQ
app = StreamQ("shop")
sent = []

@app.task
def greet(name: str) -> str:
    sent.append(name)
    return f"hello {name}"
"""
INI = '[tool.pytest.ini_options]\nstreamq_app = "tasks:app"\n'


def run(folder: Path, tests: str, *options: str, ini: str = INI, found: bool = False) -> str:
    """Run tests in a project; return what is printed. found: pytest finds the plugin by itself, and others
    that are installed, which takes seconds."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "pyproject.toml").write_text(ini)
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    env = dict(os.environ)
    if not found:
        command += ["-p", "streamq.testing.plugin"]
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    ran = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    return ran.stdout + ran.stderr


def test_fixtures(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import tasks

def test_run(streamq_queue):
    tasks.greet.enqueue("Ada")
    [task] = streamq_queue.run()
    assert task.result == "hello Ada"

def test_each_test_begins_empty(streamq_queue):
    assert streamq_queue.run() == []

def test_sent(streamq_sent):
    tasks.greet.options(delay="5m").enqueue("Ada")
    streamq_sent.assert_one(tasks.greet, name="Ada", delay="5m")
""",
    )
    assert "3 passed" in said


def test_crashes_show_a_handler_that_is_not_idempotent(tmp_path: Path) -> None:
    tests = """
import tasks

def test_each_is_greeted_once(streamq_queue):
    tasks.app.enqueue_many([tasks.greet.bind(str(n)) for n in range(20)])
    streamq_queue.run()
    assert len(tasks.sent) == 20
"""
    assert "1 passed" in run(tmp_path, tests)
    said = run(tmp_path, tests, "--streamq-crash=0.3", "--streamq-seed=5", "-v")
    assert "--streamq-crash=0.3 --streamq-seed=5" in said
    assert "1 failed" in said
    assert "--streamq-seed=" in run(tmp_path, tests, "--streamq-crash=0.3", "-v")


def test_no_app_is_named(tmp_path: Path) -> None:
    said = run(tmp_path, "def test_it(streamq_queue): ...", ini="")
    assert "no app is named: set streamq_app" in said


def test_the_plugin_loads_nothing_before_a_fixture_is_used(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import sys

def test_it():
    known = {"streamq", "streamq.lazy", "streamq.testing", "streamq.testing.plugin"}
    assert {name for name in sys.modules if name.split(".")[0] == "streamq"} == known
""",
        found=True,
    )
    assert "1 passed" in said


@pytest.mark.parametrize("runner", [["-m", "unittest", "-q", "test_it"], ["-m", "pytest", "-q"]])
def test_unittest(tmp_path: Path, runner: list[str]) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "test_it.py").write_text(
        """
import tasks
from streamq.testing import QueueTestCase

class TestIt(QueueTestCase):
    streamq_app = tasks.app

    def test_run(self):
        tasks.greet.enqueue("Ada")
        [task] = self.queue.run()
        self.assertEqual(task.result, "hello Ada")

    def test_each_test_begins_empty(self):
        self.assertEqual(self.queue.run(), [])
"""
    )
    found = subprocess.run(
        [sys.executable, *runner], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert found.returncode == 0, found.stdout + found.stderr
