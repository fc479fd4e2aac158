"""What a form or a JSON body asks for: its fields, its target, its selection of dead letters.

Owns the checks of what is posted, for actions and for the API. Raises HTTPException if something is wrong.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

from streamq.control.dead_letters import END_MS, DeadSelection

MOST_BYTES: Final = 2 * 1024 * 1024


MOST_IDS: Final = 200


_MANY: Final = {"id", "ids", "type", "fingerprint", "error", "since", "until", "action", "done"}


_FIELDS: Final[dict[str, set[str]]] = {
    "pause": {"type", "reason"}, "resume": {"type"}, "drain": {"worker"}, "cancel": {"id"}, "run-now": {"id"},
    "pause-schedule": {"schedule", "reason"}, "resume-schedule": {"schedule"}, "run-schedule": {"schedule"},
    "remove-schedule": {"schedule"}, "resubmit": {"id", "payload"},
    "forget": {"type", "results"}, "requeue": _MANY, "purge": _MANY,
}  # fmt: skip
"""What each action may be told, beside the page to go `back` to."""


def selection(given: dict[str, str]) -> DeadSelection:
    """Which dead letters a form is about."""
    return DeadSelection(
        need(given, "type"),
        fingerprint=given.get("fingerprint", ""),
        error=given.get("error", ""),
        since_ms=number(given.get("since") or "0"),
        until_ms=number(given.get("until") or str(END_MS)),
    )


def asked(request: Request) -> dict[str, str]:
    """What a page asks to confirm. Several ids become one value, with spaces between."""
    query = request.query_params
    given = dict(query.items())
    if len(ids := query.getlist("id")) > 1:
        del given["id"]
        given["ids"] = " ".join(ids)
    if len(given.get("ids", "").split()) > MOST_IDS:
        raise HTTPException(400, f"At most {MOST_IDS} dead letters are chosen at a time.")
    # Leaving out what is too long would mean more than what was asked for.
    if too_long := [
        name for name, value in given.items() if name not in ("ids", "back") and len(value) > 300
    ]:
        raise HTTPException(400, f"{too_long[0][:40]!r} has over 300 characters.")
    return given


def one_target(action: str, given: dict[str, str]) -> None:
    """Refuse what is about nothing, or about a letter and a whole type at once: the wider would win. So it
    would where the name of a limit is mistyped."""
    if unknown := sorted(given.keys() - _FIELDS[action] - {"back"}):
        raise HTTPException(
            400, f"{action} takes no {unknown[0][:40]!r}: it takes {', '.join(sorted(_FIELDS[action]))}."
        )
    if action not in ("requeue", "purge"):
        return
    named = given.keys() & {"id", "ids", "type"}
    if not named:
        raise HTTPException(400, "Nothing is selected: go back and tick what it is about.")
    if len(named) > 1:
        raise HTTPException(400, f"Say one of {', '.join(sorted(named))}, not all.")


def need(given: dict[str, str], name: str) -> str:
    if value := given.get(name, ""):
        return value
    raise HTTPException(400, f"The form lacks {name!r}.")


def number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 13:
        return int(text)
    raise HTTPException(400, f"{text[:20]!r} is no number.")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def posted(request: Request) -> dict[str, str]:
    """A posted form; no uploads, so no parser of others is needed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"A form has at most {MOST_BYTES:,} bytes.")
    if media_type(request) != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is application/x-www-form-urlencoded.")
    try:
        fields: dict[str, Any] = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError as error:
        raise HTTPException(400, f"The form cannot be read: {error}") from None
    return {name: values[-1] for name, values in fields.items()}
