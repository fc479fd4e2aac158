"""Run the end-to-end demo on an embedded server, with real processes.

A producer enqueues e-mails (some fail at first) and delayed images. Two worker processes run them; one gets
SIGKILL in the middle, and the daemon recovers its tasks. Prints a summary at the end. The exit code is 0 only
if every accepted task ended exactly once.
"""

from __future__ import annotations

import argparse

from streamq.exit_codes import FAILED, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", type=int, default=2000, help="number of tasks (2000)")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from streamq.cli.output import progress, write_json, write_lines
    from streamq.cli.signals import as_interrupted
    from streamq.demo.account import Account
    from streamq.demo.scenario import run as run_scenario
    from streamq.options.checks import whole

    tasks = whole(args.tasks, "--tasks", least=1)
    with as_interrupted(), progress("demo", tasks) as bar:
        account: Account = run_scenario(tasks, lambda now: bar.set(now.done, now.note))
    if args.json:
        write_json(asdict(account))
    else:
        _write(asdict(account))
        right, wrong = "every accepted task ended exactly once", "FAILED: a task did not end exactly once"
        write_lines("", right if account.right else wrong)
    return OK if account.right else FAILED


def _write(account: dict[str, object]) -> None:
    from streamq.cli.output import write_pairs

    waits = account.pop("wait_ms")
    assert isinstance(waits, dict)  # noqa: S101 - as Account says
    pairs = [(name.replace("_", " "), value) for name, value in account.items()]
    write_pairs([*pairs, *((f"wait {name}, ms", value) for name, value in waits.items())])
