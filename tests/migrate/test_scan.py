"""`streamq migrate scan`: what it finds of each queue, and that it does nothing but read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streamq import StreamQ, cli
from streamq.exit_codes import OK, USAGE
from streamq.migrate.scan import SYSTEMS, Found, scan
from streamq.migrate.systems import Entry
from streamq.options.table import OPTIONS, PER_CALL

CELERY = {
    "shop/celery.py": """
from celery import Celery
from celery.schedules import crontab
raise SystemExit("the scan imports nothing")
app = Celery("shop", broker="redis://")
app.conf.beat_schedule = {"a": {"schedule": crontab(minute=5)}}
app.autodiscover_tasks()
""",
    "shop/__init__.py": "from .celery import app as celery_app",
    "shop/tasks.py": """
from celery import shared_task, chord, signals
from shop import celery_app

@celery_app.task(bind=True, max_retries=3, autoretry_for=(OSError,), own_attribute=1)
def email(self, to):
    try:
        send(to)
    except ValueError as error:
        raise self.retry(exc=error, countdown=5)

@shared_task
def report(): ...

@signals.task_failure.connect
def failed(**kwargs): ...
""",
    "shop/views.py": """
from . import tasks as t

def view(request):
    t.email.delay("a@b.c")
    t.email.apply_async(args=["a"], countdown=10, task_id="x", link=t.report.s())
    unrelated.send("x")
""",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def uses(found: Found) -> dict[str, tuple[str, int]]:
    """The kind of each name, and how often it is used."""
    return {one.name: (one.entry.kind, len(one.places)) for one in found.groups()}


def only(folder: Path, files: dict[str, str]) -> Found:
    result = scan(write(folder, files))
    assert result.unread == {}
    (found,) = result.found
    return found


def test_celery(tmp_path: Path) -> None:
    found = only(tmp_path, CELERY)
    assert found.system == "Celery"
    assert uses(found) == {
        "celery.Celery": ("app", 1),
        ".autodiscover_tasks(...)": ("app", 1),
        "self.retry": ("context", 1),
        ".apply_async(...)": ("enqueue", 1),
        ".delay(...)": ("enqueue", 1),
        "celery.signals.task_failure.connect": ("hook", 1),
        "autoretry_for=": ("option", 1),
        "bind=": ("option", 1),
        "countdown=": ("option", 1),
        "link=": ("option", 1),
        "max_retries=": ("option", 1),
        "own_attribute=": ("option", 1),
        "task_id=": ("option", 1),
        "celery.schedules.crontab": ("schedule", 1),
        "conf.beat_schedule": ("setting", 1),
        "@celery_app.task": ("task type", 1),
        "@shared_task": ("task type", 1),
        ".s(...)": ("workflow", 1),
    }
    places = {one.name: one.places for one in found.groups()}
    assert places[".apply_async(...)"] == ("shop/views.py:6",)
    assert places["self.retry"] == ("shop/tasks.py:10",)


@pytest.mark.parametrize(
    ("system", "text", "expected"),
    [
        (
            "RQ",
            """
from redis import Redis
from rq import Queue, Retry
from rq.decorators import job
q = Queue("low", connection=Redis())
q.enqueue(count, "x", job_timeout=5, retry=Retry(max=3), depends_on=other, url="mine")
q.enqueue_in(delta, count)
@job("low", timeout=3)
def add(a, b): ...
add.delay(1, 2)
django_rq.get_queue("x").enqueue(count)
import django_rq
""",
            {".enqueue(...)": 2, ".enqueue_in(...)": 1, ".delay(...)": 1, "@job": 1, "job_timeout=": 1,
             "retry=": 1, "depends_on=": 1, "timeout=": 1, "rq.Queue": 1, "rq.Retry": 1,
             "django_rq.get_queue": 1},
        ),
        (
            "Dramatiq",
            """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
broker = RedisBroker()
@dramatiq.actor(max_retries=3, time_limit=60_000)
def add(a, b): ...
@broker.actor
def sub(a, b): ...
add.send(1, 2)
add.send_with_options(args=(1, 2), delay=1000)
socket.send(b"not a task")
dramatiq.group([add.message(1, 2)]).run()
dramatiq.pipeline([add.message(1, 2) | sub.message(3)]).run()
""",
            {".send(...)": 1, ".send_with_options(...)": 1, ".message(...)": 3, "@dramatiq.actor": 1,
             "delay=": 1, "max_retries=": 1, "time_limit=": 1, "dramatiq.group": 1, "dramatiq.pipeline": 1,
             "@broker.actor": 1, "dramatiq.brokers.redis.RedisBroker": 1},
        ),
        (
            "arq",
            """
from arq import create_pool, cron, Retry
async def download(ctx, url): ...
async def main():
    redis = await create_pool()
    await redis.enqueue_job("download", "x", _defer_by=5, _job_id="a")
class WorkerSettings:
    functions = [download]
    cron_jobs = [cron(download, hour=3)]
    on_startup = open_pool
    max_jobs = 10
""",
            {".enqueue_job(...)": 1, "_defer_by=": 1, "_job_id=": 1, "download": 1, "cron_jobs": 1,
             "arq.cron": 1, "on_startup": 1, "max_jobs": 1, "arq.create_pool": 1},
        ),
        (
            "taskiq",
            """
from taskiq import TaskiqDepends, TaskiqEvents
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend
broker = ListQueueBroker("redis://").with_result_backend(RedisAsyncResultBackend("redis://"))
@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state): ...
@broker.task(retry_on_error=True, schedule=[{"cron": "* * * * *"}])
async def add(a: int, b: int, pool=TaskiqDepends(pool)) -> int: ...
async def main():
    await broker.startup()
    await add.kiq(1, 2)
    await add.kicker().with_labels(delay=5).kiq(1, 2)
""",
            {".kiq(...)": 2, ".kicker(...)": 1, "@broker.task": 1, "retry_on_error=": 1, "schedule=": 1,
             "taskiq.TaskiqDepends": 1, "taskiq.TaskiqEvents": 1, ".startup(...)": 1, ".on_event(...)": 1,
             "taskiq_redis.ListQueueBroker": 1, "taskiq_redis.RedisAsyncResultBackend": 1,
             ".with_result_backend(...)": 1},
        ),
        (
            "SAQ",
            """
from saq import CronJob, Queue
queue = Queue.from_url("redis://")
async def resize(ctx, *, url): ...
async def main():
    await queue.enqueue("resize", url="x", retries=3, timeout=0)
settings = {"queue": queue, "functions": [resize], "cron_jobs": [CronJob(resize, cron="* * * * *")]}
""",
            {".enqueue(...)": 1, "retries=": 1, "timeout=": 1, "resize": 1, "saq.CronJob": 1,
             "saq.Queue.from_url": 1},
        ),
        (
            "huey",
            """
from huey import RedisHuey, crontab
huey = RedisHuey("shop")
@huey.task(retries=2)
def add(a, b): ...
@huey.periodic_task(crontab(minute="0"))
def hourly(): ...
add(1, 2)
add.schedule((1, 2), delay=5)
with huey.lock_task("x"): ...
""",
            {"add(...)": 1, ".schedule(...)": 1, "retries=": 1, "@huey.task": 1, "@huey.periodic_task": 1,
             "delay=": 1, "huey.crontab": 1, "huey.RedisHuey": 1, ".lock_task(...)": 1},
        ),
    ],
)  # fmt: skip
def test_the_others(system: str, text: str, expected: dict[str, int], tmp_path: Path) -> None:
    found = only(tmp_path, {"work.py": text})
    assert found.system == system
    assert {name: times for name, (_, times) in uses(found).items()} == expected


def test_each_row_is_found_in_the_words_of_this_release() -> None:
    """What a row tells exists here: options, commands, methods of the app."""
    rows: list[Entry] = []
    for one in SYSTEMS:
        for table in (one.names, one.app_methods, one.task_methods, one.context, one.task_options,
                      one.send_options, one.settings):  # fmt: skip
            rows += table.values()
    assert len(rows) > 300
    options = {option.name for option in OPTIONS} | PER_CALL.keys()
    others = {"name", "hooks", "imports", "tracing", "patience", "key", "tz", "by", "after"}
    text = "\n".join({row.becomes for row in rows})
    assert set(re.findall(r"\b([a-z_]+)=", text)) <= options | others
    assert {word for word in re.findall(r"`streamq ([a-z]+)", text) if word not in cli.COMMANDS} == set()
    app = StreamQ("shop")
    assert [name for name in re.findall(r"\bapp\.([a-z_]+)", text) if not hasattr(app, name)] == []
    assert all(row.becomes or row.fit == "none" for row in rows)


def test_two_queues_in_one_code_base(tmp_path: Path) -> None:
    result = scan(
        write(tmp_path, CELERY | {"old.py": "import rq\n@rq.job('x')\ndef old(): ...\nold.delay()\n"})
    )
    found = {one.system: uses(one) for one in result.found}
    assert list(found) == ["Celery", "RQ"]
    assert found["RQ"] == {"@rq.job": ("task type", 1), ".delay(...)": ("enqueue", 1)}
    assert found["Celery"][".delay(...)"] == ("enqueue", 1)


def test_what_it_does_not_read(tmp_path: Path) -> None:
    use = "from celery import shared_task\n@shared_task\ndef a(): ...\n"
    write(tmp_path, {
        "good.py": use, ".venv/lib/x.py": use, "env/x.py": use, "env/pyvenv.cfg": "",
        "node_modules/a.py": use, "bad.py": "def (", "nul.py": "a = '\0'", "text.txt": use,
        "deep.py": "(" * 5000 + ")" * 5000,
    })  # fmt: skip
    (tmp_path / "latin.py").write_bytes(b"# coding: utf-8\nname = '\xff'\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    result = scan(tmp_path)
    assert result.files == 1
    assert sorted(result.unread) == ["bad.py", "deep.py", "gone.py", "latin.py", "nul.py"]
    assert [(one.system, len(one.uses)) for one in result.found] == [("Celery", 2)] or result.found[
        0
    ].files == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, CELERY | {"bad.py": "def ("})
    assert cli.main(["migrate", "scan", str(tmp_path)]) == OK
    out, err = capsys.readouterr()
    assert out.startswith("Celery: 18 uses in 3 files\n")
    assert re.search(r"^option +own_attribute= +1 +not known to this scan", out, re.MULTILINE)
    assert "\nbehaves differently:\n" in out
    assert "\n      shop/tasks.py:5\n" in out
    assert err.startswith("not read: bad.py: SyntaxError")

    assert cli.main(["migrate", "scan", str(tmp_path), "--json"]) == OK
    data = json.loads(capsys.readouterr().out)
    assert (data["files"], list(data["unread"])) == (4, ["bad.py"])
    (system,) = data["systems"]
    assert system["uses"] == system["same"] + system["changed"] + system["none"] == 18
    assert {"name": ".delay(...)", "kind": "enqueue", "fit": "same", "places": ["shop/views.py:5"],
            "becomes": "task.enqueue(...), or await task.aenqueue(...)"} in system["found"]  # fmt: skip


def test_the_command_with_nothing_to_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("print('hello')\n")
    assert cli.main(["migrate", "scan", str(tmp_path / "a.py")]) == OK
    assert capsys.readouterr().out == "no use of another task queue in 1 Python files\n"
    assert cli.main(["migrate", "scan", str(tmp_path / "gone")]) == USAGE
    assert "there is no such file or folder" in capsys.readouterr().err


def test_names_of_the_code_base_itself_are_followed(tmp_path: Path) -> None:
    """A decorator that is bound to options, and a queue class that is derived from theirs."""
    files = {
        "web/worker.py": """
from functools import partial
from rq.decorators import job as rq_job
from rq import Queue as BaseQueue
class Decorator(rq_job): ...
class Counting: ...
class OurQueue(Counting, BaseQueue): ...
job = partial(Decorator, connection=None)
""",
        "web/tasks.py": """
from web.worker import job, OurQueue
@job("emails", timeout=30)
def send(to): ...
queue = OurQueue("emails")
def later(to):
    send.delay(to)
    queue.enqueue(send, to, job_id="x")
    OurQueue("other").enqueue(send, to)
""",
    }
    [found] = scan(write(tmp_path, files)).found
    names = [use.name for use in found.uses if use.path == "web/tasks.py"]
    assert sorted(names) == [
        ".delay(...)", ".enqueue(...)", ".enqueue(...)", "@job", "job_id=", "timeout=",
    ]  # fmt: skip
