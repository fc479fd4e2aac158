"""Commands that act on names: pause, resume, cancel, run-now, drain, dismiss.

Owns what each of them does to every name and how that is reported; a function's docstring is its command's
help. Must not decide anything that `admin` decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from typing import Final, NamedTuple

from streamq.cli import target
from streamq.cli.output import write_json, write_lines, write_message
from streamq.exit_codes import FAILED, NOT_FOUND, OK

_CANCELLED: Final = {"cancelled": "cancelled", "requested": "its worker was asked to stop it"}


class Report(NamedTuple):
    """What happened. `json`: for programs. `problems`: for stderr."""

    json: dict[str, object]
    lines: Sequence[str]
    problems: Sequence[str] = ()
    code: int = OK


def pause(found: target.Target, args: argparse.Namespace, names: list[str]) -> Report:
    """Stop all workers from running task types, within a second.

    Running tasks finish, and enqueue still accepts: new tasks wait. `streamq stats` and `streamq top` show
    what is paused, by whom and why.
    """
    types = target.known(found, names)
    return _types("paused", "was paused already", {one: found.admin.pause(one, args.reason) for one in types})


def resume(found: target.Target, _: argparse.Namespace, names: list[str]) -> Report:
    """Let workers run paused task types again, within a second."""
    types = target.known(found, names)
    return _types("resumed", "was not paused", {one: found.admin.resume(one) for one in types})


def _types(done: str, unchanged: str, changed: dict[str, bool]) -> Report:
    lines = [f"{done} {one}" if now else f"{one} {unchanged}" for one, now in changed.items()]
    return Report({done: list(changed), "changed": [one for one, now in changed.items() if now]}, lines)


def cancel(found: target.Target, _: argparse.Namespace, names: list[str]) -> Report:
    """Cancel tasks that have not ended.

    A waiting or scheduled task is cancelled at once. For a running task, its worker is asked to stop it: an
    async handler gets CancelledError, a process is killed, a thread can only check `get_context().cancelled`.
    Exit code 3 if a task is unknown, 1 if it had ended.
    """
    replies = {one: found.admin.cancel(one) for one in names}
    states = {one: found.inspector.task(one).state for one in names}
    late = {one: states[one] for one in names if replies[one] not in _CANCELLED}
    return Report(
        {"tasks": [{"id": one, "answer": replies[one], "state": states[one]} for one in names]},
        [f"{one}: {_CANCELLED[replies[one]]}" for one in names if one not in late],
        [_problem(one, state, "too late: task {} is {}") for one, state in late.items()],
        _code(late),
    )


def run_now(found: target.Target, args: argparse.Namespace, names: list[str]) -> Report:
    """Make scheduled tasks ready at once: those that were enqueued for later, and those that wait for a
    retry.

    A task that is parked in a lane becomes the first of its lane. Exit code 3 if a task is unknown, 1 if it
    is not scheduled.
    """
    ready = [one for one in names if found.admin.run_now(one, force=args.force)]
    late = {one: found.inspector.task(one).state for one in names if one not in ready}
    return Report(
        {"ready": ready, "not_scheduled": late},
        [f"{one} is ready" for one in ready],
        [_not_ready(one, state) for one, state in late.items()],
        _code(late),
    )


def _not_ready(task: str, state: str) -> str:
    if state == "scheduled":
        return f"task {task} waits for the end of the task that holds its unique key"
    return _problem(task, state, "task {} is not scheduled: it is {}")


def _problem(task: str, state: str, late: str) -> str:
    return f"unknown task {task}" if state == "unknown" else late.format(task, state)


def _code(late: Mapping[str, str]) -> int:
    return NOT_FOUND if "unknown" in late.values() else FAILED if late else OK


def drain(found: target.Target, _: argparse.Namespace, names: list[str]) -> Report:
    """Let workers finish their tasks and end, as after SIGTERM.

    `streamq workers` lists the names. Tasks that have not finished within the worker's --drain-timeout are
    handed back. The supervisor does not replace a drained worker. Exit code 3 if a worker is
    unknown.
    """
    asked = [one for one in names if found.admin.drain(one)]
    missing = [one for one in names if one not in asked]
    return Report(
        {"asked": asked, "not_found": missing},
        [f"{one} was asked to drain" for one in asked],
        [f"unknown worker {one[:120]!r}: `streamq workers` lists the names" for one in missing],
        NOT_FOUND if missing else OK,
    )


def dismiss(found: target.Target, _: argparse.Namespace, names: list[str]) -> Report:
    """Take dead workers off the lists, before their rows are removed by age.

    `streamq workers` lists the names. The tasks that they held are given to others as before. A worker that
    lives is refused. Exit code 3 if a worker is unknown.
    """
    gone = [one for one in names if found.admin.dismiss(one)]
    missing = [one for one in names if one not in gone]
    return Report(
        {"dismissed": gone, "not_found": missing},
        [f"{one} was dismissed" for one in gone],
        [f"unknown worker {one[:120]!r}: `streamq workers` lists the names" for one in missing],
        NOT_FOUND if missing else OK,
    )


class Act:
    """A command: a function, its options, and what reads the names from them."""

    def __init__(
        self,
        act: Callable[[target.Target, argparse.Namespace, list[str]], Report],
        arguments: Callable[[argparse.ArgumentParser], None],
        names: Callable[[argparse.Namespace], list[str]],
    ) -> None:
        self.__doc__ = cleandoc(act.__doc__ or "")
        self._act, self._names = act, names
        self.arguments: Callable[[argparse.ArgumentParser], None] = arguments

    def run(self, args: argparse.Namespace) -> int:
        names, found = self._names(args), target.find(args)
        report = self._act(found, args, names)
        if args.json:
            write_json({"app": found.app, **report.json})
        else:
            write_lines(*report.lines)
        for problem in report.problems:
            write_message(problem)
        return report.code


def _pause_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="the reason, shown wherever the pause is shown")
    _type_options(parser)


def _type_options(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "the task types")
    target.options(parser)


def _run_now_options(parser: argparse.ArgumentParser) -> None:
    target.task_options(parser)
    parser.add_argument(
        "--force", action="store_true", help="start a parked task past the limits of its lane, which count it"
    )


def _worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", nargs="+", metavar="WORKER", help="the workers, by name")
    target.options(parser)


def _workers(args: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(args.worker))


ACTS: Final = {
    "pause": Act(pause, _pause_options, target.some_types),
    "resume": Act(resume, _type_options, target.some_types),
    "cancel": Act(cancel, target.task_options, target.task_ids),
    "run-now": Act(run_now, _run_now_options, target.task_ids),
    "drain": Act(drain, _worker_options, _workers),
    "dismiss": Act(dismiss, _worker_options, _workers),
}
