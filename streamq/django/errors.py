"""The errors of attempts as `TaskError`: the class by its dotted path, and the traceback.

Owns that form, and which class stands for an end without an exception.
"""

from __future__ import annotations

from traceback import format_exception
from typing import Final

from streamq.django.names import TaskError
from streamq.envelope import Failure
from streamq.worker.failures import class_name, class_path

_ENDS: Final = {"cancelled": "streamq.errors.TaskCancelled", "expired": "streamq.errors.TaskExpired"}


def path_of(error: BaseException) -> str:
    """Return the dotted path of an exception's class."""
    return class_path(error) or f"builtins.{class_name(error)}"


def error_of(error: BaseException) -> TaskError:
    """Return an exception that was just raised."""
    try:
        traceback = "".join(format_exception(error))
    except Exception:  # noqa: BLE001 - the user's __str__
        traceback = f"{path_of(error)}: (the exception's __str__ raised)\n"
    return TaskError(exception_class_path=path_of(error), traceback=traceback)


def of_failure(failure: Failure) -> TaskError:
    """Return a stored failure."""
    name = str(failure.get("error") or "Exception")
    path = str(failure.get("class") or _known(name))
    text = str(failure.get("traceback") or "") or f"{name}: {failure.get('message', '')}\n"
    return TaskError(exception_class_path=path, traceback=text)


def _known(name: str) -> str:
    """Return the path of a class that was stored by its name alone: streamq's, or Python's."""
    from streamq import errors  # noqa: PLC0415 - rarely needed

    return f"streamq.errors.{name}" if hasattr(errors, name) else f"builtins.{name}"


def of_end(state: str, about: str) -> TaskError | None:
    """Return the error of a task that ended without an exception; None if its failures say it all."""
    path = _ENDS.get(state)
    return None if path is None else TaskError(exception_class_path=path, traceback=about)
