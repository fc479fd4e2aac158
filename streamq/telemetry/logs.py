"""Logs: structlog, set up only in streamq's own processes, never in a user's.

Owns the log format (console on a terminal, JSON by orjson otherwise, always on stderr), and that every line
written while a handler runs, by whatever logger, names its task, type, attempt, worker and trace. A library
user who has structlog set up sees streamq's events through it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from io import StringIO
from typing import Any, Final, TextIO, cast

from streamq import printable
from streamq.context import CURRENT
from streamq.telemetry.traces import trace_id

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "console", "json")
_SETTINGS: list[tuple[str, str]] = []
_RECORDS: Final = "streamq.task"
"""The logger whose records are failed attempts."""
_LONGEST_LINE: Final = 200
_MARK: Final = "streamq_failure"


def get_logger(**bound: object) -> Any:
    """streamq's logger. structlog is imported here, at first use: a producer that never logs is spared."""
    import structlog  # noqa: PLC0415

    return structlog.get_logger("streamq", **bound)


def configure(level: str = "info", form: str = "auto") -> None:
    """Set logging up for a process of ours; the standard library's loggers go the same way."""
    import structlog  # noqa: PLC0415

    _SETTINGS[:] = [(level, form)]
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        with_task,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    render = _console(tracebacks=level == "debug") if console else _json()
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler(cast("TextIO", _Stderr()))
    handler.setFormatter(formatter)
    handler.addFilter(_said_already)
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)


def always(event: str, **about: Any) -> None:
    """Log at level info, whatever the level is: what programs wait for, as that a worker is ready.

    In a user's process, where logging is not ours, it is a line like any other.
    """
    import structlog  # noqa: PLC0415

    if not _SETTINGS:
        get_logger().info(event, **about)
        return
    logger = structlog.PrintLogger(cast("TextIO", _Stderr()))
    unfiltered = structlog.make_filtering_bound_logger(logging.INFO)
    structlog.wrap_logger(logger, wrapper_class=unfiltered).info(event, **about)


def settings() -> tuple[str, str] | None:
    """Level and format, where logging was set up here: for processes that we start."""
    return _SETTINGS[0] if _SETTINGS else None


def with_task(_logger: object, _method: str, event: dict[str, object]) -> dict[str, object]:
    """A structlog processor: adds the task that runs here. Asked for each line, so a task that logs nothing
    pays nothing; put it into your own configuration to have the same there."""
    context = CURRENT.get(None)
    if context is not None:
        event.setdefault("task", context.id)
        event.setdefault("type", context.type)
        event.setdefault("attempt", context.attempt)
        event.setdefault("worker", context.worker)
    if trace := trace_id():
        event.setdefault("trace_id", trace)
    return event


class InAnotherProcess(Exception):
    """Stands for an exception that was raised in another process; its cause holds the traceback as text."""


def debugging() -> bool:
    """Whether lines at debug level are read by anybody: where nobody has set a log up, they are not."""
    import structlog  # noqa: PLC0415

    if _SETTINGS:
        return _SETTINGS[0][0] == "debug"
    if not structlog.is_configured():
        return logging.getLogger(_RECORDS).isEnabledFor(logging.DEBUG)
    asked = getattr(structlog.get_logger(), "is_enabled_for", None)
    return bool(asked(logging.DEBUG)) if asked is not None else False


def failed(
    log: Any,
    event: str,
    *,
    final: bool,
    exception: BaseException,
    traceback: str,
    about: dict[str, object],
    worker: str,
    attempts: str,
) -> None:
    """Say that an attempt failed: one line, and a record with its exception for whoever listens to the
    standard library's `logging`, as error trackers do. A log that raises, or an exception that cannot be
    shown, is no reason to end a worker."""
    level = logging.ERROR if final else logging.WARNING
    with suppress(BaseException):
        more: dict[str, object] = {}
        if _SETTINGS:
            more = {"traceback": _short(traceback)} if traceback else {}
        elif _own_structlog():
            more = {"exc_info": exception}
        log.log(level, event, **about, **more)
    if _own_structlog() and _through_stdlib():
        return  # the line is the record
    with suppress(BaseException):
        _record(level, exception, about, worker, attempts)


def _record(
    level: int, exception: BaseException, about: dict[str, object], worker: str, attempts: str
) -> None:
    logger = logging.getLogger(_RECORDS)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # else Python would print it where no log is set up
    logger.log(
        level,
        "task %s failed in attempt %s: %s: %s",
        about["task"], attempts, about["error"], about["message"],
        exc_info=(type(exception), exception, exception.__traceback__),
        extra={
            _MARK: True, "task_id": about["task"], "task_type": about["type"],
            "task_attempt": about["attempt"], "task_worker": worker,
        },
    )  # fmt: skip


def _short(traceback: str) -> str:
    """Without the tails of long lines: the message is in the line itself."""
    return "\n".join(line[:_LONGEST_LINE] for line in traceback.split("\n"))


def _own_structlog() -> bool:
    import structlog  # noqa: PLC0415

    return not _SETTINGS and structlog.is_configured()


def _through_stdlib() -> bool:
    import structlog  # noqa: PLC0415

    return isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory)


def _said_already(record: logging.LogRecord) -> bool:
    """Our own handler passes over what the log has said in a line of its own."""
    return not hasattr(record, _MARK)


class _Stderr:
    """Standard error as it is at the moment. A reader that has gone must not end a worker: what cannot
    be written is dropped."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _console(*, tracebacks: bool) -> list[Any]:
    import structlog  # noqa: PLC0415

    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_exception)

    def lines(logger: object, name: str, event: Any) -> str:
        """One line an event, with a failed attempt's traceback below it where that is asked for."""
        below = event.pop("traceback", None)
        seen = {printable.line(str(key)): _visible(key, value) for key, value in event.items()}
        text = render(logger, name, seen)
        shown = tracebacks and isinstance(below, str)
        return f"{text}\n{printable.below(below.rstrip())}" if shown else text

    return [lines]


class _Shown:
    """Has the console show a value by its repr, as it does, but nothing that steers a terminal."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return printable.line(repr(self._value))


def _visible(key: str, value: object) -> object:
    """A value as the console may show it. A line break would begin a line that looks like another event."""
    if key == "exc_info" or value is None or isinstance(value, int | float):
        return value
    if key in ("stack", "exception"):
        return printable.below(str(value))
    if key == "event":
        return printable.line(str(value))
    return value if isinstance(value, str) and printable.line(value) == value else _Shown(value)


def _exception(out: TextIO, raised: Any) -> None:
    from structlog.dev import plain_traceback  # noqa: PLC0415

    text = StringIO()
    plain_traceback(text, raised)
    out.write(printable.below(text.getvalue()))


def _plain(value: Any) -> str:
    """Text that JSON can hold, whatever a handler has logged: a log line must not fail its task."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()


def _json() -> list[Any]:
    import orjson  # noqa: PLC0415
    import structlog  # noqa: PLC0415

    def dumps(event: Any, **_: Any) -> str:
        try:
            raw = orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # lone surrogates, an integer of more than 64 bits, a key of no JSON type
            raw = orjson.dumps({_plain(key): _plain(value) for key, value in event.items()})
        return printable.json(raw.decode())

    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(serializer=dumps)]
