"""Write the JSON Schemas of an app's handlers to a file, and check later code against it.

`export` writes FILE (- for standard output), which you commit. `check` names what the code would break that
FILE describes: queued tasks, workers of the old code, results. Exit code 1 if anything breaks. No server is
needed. APP is module:attribute.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import orjson

from streamq.cli.output import write_json, write_lines, write_message
from streamq.cli.worker import import_option, imports
from streamq.errors import UsageError
from streamq.exit_codes import FAILED, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("export", "check"), help="what to do")
    parser.add_argument("app", metavar="APP", help="the app: module:attribute, such as shop.tasks:app")
    parser.add_argument("file", metavar="FILE", help="the file with the schemas")
    import_option(parser)
    parser.add_argument("--json", action="store_true", help="check: print one JSON object")


def run(args: argparse.Namespace) -> int:
    from streamq.schema.describe import describe
    from streamq.worker.loading import load_app

    now = describe(load_app(args.app, imports(args)).registry.handlers)
    if args.action == "check":
        return _check(args, now)
    if args.file == "-":
        write_json(now)
        return OK
    Path(args.file).write_bytes(orjson.dumps(now, option=orjson.OPT_INDENT_2) + b"\n")
    write_message(f"wrote the schemas of {len(now['types'])} task types to {args.file}")
    return OK


def _check(args: argparse.Namespace, now: dict[str, Any]) -> int:
    from streamq.schema.compare import breaks

    before = _read(args.file)
    found = breaks(before, now)
    fresh = sorted(now["types"].keys() - before["types"].keys())
    if args.json:
        write_json({"breaks": [one._asdict() for one in found], "new_types": fresh})
    else:
        write_lines(*(f"{one.type}: breaks {one.breaks}: {one.what}" for one in found))
    if found:
        return FAILED
    if before != now:
        write_message(f"nothing breaks. Bring {args.file} up to date with `streamq schema export`")
    elif not args.json:
        write_message("nothing has changed")
    return OK


def _read(file: str) -> dict[str, Any]:
    from streamq.schema.describe import FORM

    try:
        found: Any = orjson.loads(Path(file).read_bytes())
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}. Write it with `streamq schema export`"
        ) from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("streamq_schema") != FORM:
        raise UsageError(f"{file} is not a file of `streamq schema export` of this release")
    return found
