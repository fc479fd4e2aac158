"""A handler at the top of a module, for processes that import it by its name."""

from __future__ import annotations

from streamq import StreamQ, get_context

app = StreamQ("shop", "unix:///nowhere.sock")


@app.task(executor="process", max_attempts=1)
def told() -> int | None:
    """Return the time that the run is for, in ms."""
    found = get_context().scheduled_for
    return None if found is None else round(found.timestamp() * 1000)
