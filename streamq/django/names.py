"""The names of `django.tasks`: of Django 6, or of the backport `django-tasks` for 5.2.

Owns the choice between the two, which differ in module paths and in two names of errors. Must not hold
anything else.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django_tasks.backends.base import BaseTaskBackend as BaseTaskBackend
    from django_tasks.base import Task as Task
    from django_tasks.base import TaskContext as TaskContext
    from django_tasks.base import TaskError as TaskError
    from django_tasks.base import TaskResult as TaskResult
    from django_tasks.exceptions import InvalidTaskError
    from django_tasks.exceptions import TaskResultDoesNotExist as TaskResultDoesNotExist
    from django_tasks.utils import normalize_json as normalize_json

    InvalidTask = InvalidTaskError
    TaskResultStatus: Any  # an enumeration of Django's, which has no types
    task_backends: Any
    task_enqueued: Any
    task_started: Any
    task_finished: Any
    ROOT: str
else:
    if find_spec("django.tasks"):
        ROOT = "django.tasks"
    elif find_spec("django_tasks"):
        ROOT = "django_tasks"
    else:
        raise ImproperlyConfigured(
            "streamq.django needs django.tasks: Django 6, or django-tasks beside Django 5.2 "
            "(pip install django-tasks)"
        )
    _base = import_module(f"{ROOT}.base")
    _errors = import_module(f"{ROOT}.exceptions")
    _signals = import_module(f"{ROOT}.signals")
    BaseTaskBackend = import_module(f"{ROOT}.backends.base").BaseTaskBackend
    Task, TaskContext, TaskError = _base.Task, _base.TaskContext, _base.TaskError
    TaskResult, TaskResultStatus = _base.TaskResult, _base.TaskResultStatus
    normalize_json = _base.normalize_json
    InvalidTask = getattr(_errors, "InvalidTask", None) or _errors.InvalidTaskError
    TaskResultDoesNotExist = _errors.TaskResultDoesNotExist
    task_backends = import_module(ROOT).task_backends
    task_enqueued, task_started = _signals.task_enqueued, _signals.task_started
    task_finished = _signals.task_finished
