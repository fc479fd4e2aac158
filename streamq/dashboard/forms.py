"""Read a form or a JSON body: its fields, its target, its selection of dead letters.

Owns the checks of posted fields, for actions and for the API. Raises HTTPException if a field is wrong.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

from streamq.control.dead_letters import END_MS, DeadSelection

MOST_BYTES: Final = 2 * 1024 * 1024
MOST_IDS: Final = 200
_MANY: Final = {"id", "ids", "type", "fingerprint", "error", "since", "until", "action", "done"}
_FIELDS: Final[dict[str, set[str]]] = {
    "pause": {"type", "reason"}, "resume": {"type"}, "drain": {"worker"},
    "dismiss": {"worker"}, "cancel": {"id"}, "run-now": {"id"},
    "cancel-flow": {"flow", "keep"}, "retry-flow": {"flow", "start"},
    "pause-schedule": {"schedule", "reason"}, "resume-schedule": {"schedule"}, "run-schedule": {"schedule"},
    "remove-schedule": {"schedule"}, "resubmit": {"id", "payload"},
    "forget": {"type", "results"}, "requeue": _MANY, "purge": _MANY,
}  # fmt: skip
"""The fields of each action, besides `back`, the page to return to."""


def selection(given: dict[str, str]) -> DeadSelection:
    """Return the selection of a form."""
    return DeadSelection(
        required(given, "type"),
        fingerprint=given.get("fingerprint", ""),
        error=given.get("error", ""),
        since_ms=number(given.get("since") or "0"),
        until_ms=number(given.get("until") or str(END_MS)),
    )


def read_confirmation(request: Request) -> dict[str, str]:
    """Return the fields of an action to confirm. Several ids become one value, separated by spaces."""
    query = request.query_params
    given = dict(query.items())
    if len(ids := query.getlist("id")) > 1:
        del given["id"]
        given["ids"] = " ".join(ids)
    if len(given.get("ids", "").split()) > MOST_IDS:
        raise HTTPException(400, f"Too many dead letters were selected: select at most {MOST_IDS}.")
    # Without a filter that is too long, the selection would be larger than intended.
    if too_long := [
        name for name, value in given.items() if name not in ("ids", "back") and len(value) > 300
    ]:
        raise HTTPException(400, f"{too_long[0][:40]!r} is longer than 300 characters.")
    return given


def check_target(action: str, given: dict[str, str]) -> None:
    """Raise HTTPException for a selection of nothing, for a dead letter and a type at once, and for an
    unknown field: a mistyped filter would make the selection larger than intended."""
    if unknown := sorted(given.keys() - _FIELDS[action] - {"back"}):
        raise HTTPException(
            400, f"Unknown field {unknown[0][:40]!r}: {action} has {', '.join(sorted(_FIELDS[action]))}."
        )
    if action not in ("requeue", "purge"):
        return
    named = given.keys() & {"id", "ids", "type"}
    if not named:
        raise HTTPException(400, "Nothing is selected. Go back and select at least one.")
    if len(named) > 1:
        raise HTTPException(400, f"Too many targets: use only one of {', '.join(sorted(named))}.")


def required(given: dict[str, str], name: str) -> str:
    if value := given.get(name, ""):
        return value
    raise HTTPException(400, f"Missing field {name!r}.")


def where_wrong(payload: str) -> str:
    """Return where a text is no JSON object, for its author; '' if it is one."""
    try:
        found = json.loads(payload)  # unlike orjson it says where
    except json.JSONDecodeError as error:
        return f"Line {error.lineno}, column {error.colno}: {error.msg}."
    except RecursionError:
        return "It is nested too deep."
    kind = {list: "a list", str: "a text", bool: "true or false"}.get(type(found), "a single value")
    return "" if isinstance(found, dict) else f"It is {kind}: write an object of the arguments by name."


def number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 13:
        return int(text)
    raise HTTPException(400, f"{text[:20]!r} is not a number.")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form. There are no uploads, so urlencoded forms are enough."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"The form is larger than {MOST_BYTES:,} bytes.")
    if media_type(request) != "application/x-www-form-urlencoded":
        raise HTTPException(415, "The content type must be application/x-www-form-urlencoded.")
    try:
        fields: dict[str, list[str]] = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError as error:
        raise HTTPException(400, f"The form cannot be read: {error}") from None
    return {name: values[-1] for name, values in fields.items()}
