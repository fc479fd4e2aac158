"""Describe another task queue for the scan: its names, and what each becomes here.

Owns the shape of a table. The rows are in the module of each queue. Must not know syntax trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Fit = Literal["same", "changed", "none"]
"""same: another name for it. changed: it exists and behaves differently. none: it has no counterpart."""

Kind = Literal[
    "task type", "enqueue", "option", "result", "schedule", "workflow", "hook", "context", "setting", "app",
    "worker", "test", "other",
]  # fmt: skip


class Entry(NamedTuple):
    """A name of another queue. becomes: what to write here, or what to do without it."""

    kind: Kind
    becomes: str
    fit: Fit = "same"


@dataclass(frozen=True)
class System:
    """One queue.

    roots: the packages whose import marks a file. apps: what makes an app, a broker or a queue when called.
    decorators: imported names that make a task type; app_decorators: methods of an app that do. names:
    imported names (`x.*`: all below x). app_methods, task_methods: what is called on those. loose: those
    task_methods whose names are so peculiar that they count on any receiver, in a code base that imports the
    queue. context: names called on the first parameter of a task. task_options, send_options: keywords.
    settings: names that are assigned at module level or in a class of settings. lists: names of settings that
    list functions as task types. calls_send: calling a task type enqueues it.
    """

    name: str
    roots: tuple[str, ...]
    apps: frozenset[str] = frozenset()
    decorators: frozenset[str] = frozenset()
    app_decorators: frozenset[str] = frozenset()
    names: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    app_methods: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    task_methods: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    loose: frozenset[str] = frozenset()
    context: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    task_options: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    send_options: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    settings: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    lists: frozenset[str] = frozenset()
    calls_send: bool = False

    def named(self, dotted: str) -> Entry | None:
        """Return the entry of an imported name, or of the package that it is in."""
        found = self.names.get(dotted)
        while found is None and "." in dotted:
            dotted = dotted.rpartition(".")[0]
            found = self.names.get(f"{dotted}.*")
        return found


def rows(kind: Kind, table: Mapping[str, str | tuple[str, Fit]]) -> dict[str, Entry]:
    """Return entries of one kind from `{"name other_name": becomes}`, or `(becomes, fit)`."""
    found: dict[str, Entry] = {}
    for names, meaning in table.items():
        entry = Entry(kind, meaning) if isinstance(meaning, str) else Entry(kind, *meaning)
        found |= dict.fromkeys(names.split(), entry)
    return found


def joined(*tables: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return all rows of several tables."""
    return {name: entry for table in tables for name, entry in table.items()}


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# -- what several queues have ------------------------------------------------------------------------------

DEFINE: Final = "@app.task, or @tasks.task of a TaskSet in a package that knows no app"
SEND: Final = "task.enqueue(...), or await task.aenqueue(...)"
LATER: Final = 'task.options(delay="1m").enqueue(...)'
AT: Final = "task.options(at=...).enqueue(...)"
BY_NAME: Final = 'app.send("name", {...}): arguments by name'
HANDLE: Final = "app.handle(task_id)"
CRON: Final = '@app.task(schedule=Cron("..."))'
TIMEOUT: Final = "timeout=; the default is 30 s"
ATTEMPTS: Final = "max_attempts=: counts the first attempt too, and every exception is retried by default"
SAME_ATTEMPTS: Final = "max_attempts=: the same number; every exception is retried by default"
RETRY: Final = 'raise Retry(after="1m")'
HOOKS: Final = "hooks of the app: StreamQ(hooks=[...])"
LIFESPAN: Final = "@app.lifespan opens and closes what each worker shares"
CONTEXT: Final = "get_context() in the handler"
RESULTS: Final = "retention=: results are kept in the queue's own Redis"
TYPES: Final = 'queue="..." of the task type, not of a call: `streamq worker APP --queues ...` chooses'
KEY: Final = "idempotency_key=: a name for one task; the id is made by the server"
JSON: Final = "nothing: values are sent as JSON and converted to the annotated types; no pickles"
TESTS: Final = "streamq.testing: a real server, tasks run in the test's own thread"
WORKER: Final = "the command `streamq worker APP`, or `async with app.run_worker()`"
PROGRESS: Final = "get_context().progress(done, total)"
RUN_FLOW: Final = "return await get_context().run_flow(wf): the task waits for a flow, and returns its result"
FOLLOW: Final = "enqueue the next task in the handler: get_context().enqueue(next.bind(...))"
FLOW: Final = "a flow: wf = app.flow(name); wf.add(task.bind(...)), wf.chain(...), wf.group(...); wf.start()"
URL: Final = "STREAMQ_URL, or StreamQ(name, url)"
NO_CLASS: Final = "hooks, or dependencies with Depends(...); there are no task classes"
GROUP: Final = "app.enqueue_many([task.bind(...), ...]); what runs after all of them is a node of a flow"
GIVE_UP: Final = "return, or raise what is in give_up_on="
NOTHING: Final = "nothing to write: it is always so"
