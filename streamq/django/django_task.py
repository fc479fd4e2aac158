"""A Django task with streamq's options: what `@task(...)` makes where this backend is set.

Owns what a task type's policy and a single call add to `django.tasks.Task`. Sends nothing: the backend does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Self, TypeVar, Unpack

from asgiref.sync import sync_to_async

from streamq.django.names import Task, TaskResult
from streamq.errors import InvalidOption, UsageError
from streamq.options.call import per_call
from streamq.options.checks import reject_unknown
from streamq.options.table import POLICY
from streamq.options.typed import CallOfAny
from streamq.registry.handler import Handler

P = ParamSpec("P")
T = TypeVar("T")

POLICY_NAMES: Final = tuple(name for name in POLICY if name not in ("priority", "batch"))
"""The options of a task type that `@task(...)` takes. `priority` is that of django.tasks, and `queue` another
word for its `queue_name`. It has no calls with many tasks at once."""
_NO_BATCH: Final = (
    "batch=: a task of django.tasks is one call, with a result and signals of its own. Write a handler that "
    "takes many tasks at once with @get_app().task(batch=...) of streamq.django"
)


if TYPE_CHECKING:

    class _Task(Task[P, T]): ...

else:

    class _Task(Task, Generic[P, T]):  # that of Django 6 is not generic
        __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class StreamQTask(_Task[P, T]):
    """A task of `django.tasks` with a policy: `@task(max_attempts=3, ...)`; see TaskOptions for each option.

    policy: the options of the task type that the code states. options: of the calls made through it, as
    `using(...)` has set them. database: the alias whose COMMIT `enqueue_on_commit` waits for.
    """

    policy: Mapping[str, Any] = field(hash=False)
    options: Mapping[str, Any] = field(hash=False)
    database: str | None

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        database: str | None = None,
        **given: Any,
    ) -> None:
        """Take the fields of a Task, and the options of its type by name. Raises InvalidOption for one that
        does not exist, and InvalidTask."""
        for one in fields(Task):
            if one.name in given:
                object.__setattr__(self, one.name, given.pop(one.name))
            else:
                object.__setattr__(self, one.name, one.default)
        if "batch" in given:
            raise InvalidOption(_NO_BATCH)
        reject_unknown(given, POLICY_NAMES, "@task")
        if (queue := given.pop("queue", None)) is not None:
            object.__setattr__(self, "queue_name", self._one_queue(queue))
        object.__setattr__(self, "policy", {**(policy or {}), **given})
        object.__setattr__(self, "options", dict(options or {}))
        object.__setattr__(self, "database", database)
        self.__post_init__()

    def _one_queue(self, queue: str) -> str:
        """Return the queue that both words name. Raises InvalidOption if they differ."""
        if self.queue_name not in (queue, "default"):
            raise InvalidOption(
                f"queue={queue!r:.80} and queue_name={self.queue_name!r:.80} name two queues: leave one out"
            )
        return queue

    @property
    def handler(self) -> Handler:
        """The task type's handler, for a child process that runs it."""
        backend: Any = self.get_backend()
        found: Handler = backend.home.handler(self)
        return found

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        database: str | None = None,
        **options: Unpack[CallOfAny],
    ) -> Self:
        """Return the task with other defaults for its calls. The arguments besides those of django.tasks are
        those of streamq's `.options(...)`. Raises InvalidOption."""
        if wrong := sorted({"delay", "at"} & options.keys()):
            raise UsageError(f"using({wrong[0]}=...): a Django task waits with run_after=, an aware datetime")
        given = {name: value for name, value in options.items() if value is not None}
        reject_unknown(given, CallOfAny.__annotations__, "using()")
        per_call(given)
        found: Self = _Task.using(  # pyright: ignore[reportAssignmentType]
            self, priority=priority, queue_name=queue_name, run_after=run_after, backend=backend
        )
        if not given and database is None:
            return found
        return replace(found, options={**self.options, **given}, database=database or self.database)

    def enqueue_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[T]:
        """Enqueue when the open transaction commits, and not at all if it is rolled back. Without one, now.

        The arguments are checked and encoded now. A process that dies between COMMIT and the call to the
        server loses the task: the outbox does not. `using(database=...)` names another database.
        """
        backend: Any = self.get_backend()
        found: TaskResult[T] = backend.enqueue_on_commit(self, args, kwargs, self.database)
        return found

    async def aenqueue_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[T]:
        """Enqueue on commit, as `enqueue_on_commit` does, from an event loop: in the thread that has the
        transactions of this context."""
        found: TaskResult[T] = await sync_to_async(self.enqueue_on_commit)(*args, **kwargs)
        return found
