"""The clock of a test: the server's, as the scripts read it, until the test moves it; then it stops.

Owns the moved clock. A server has no command for that, so from the first move until `close` the scripts of
this process are sent with another line for the time, which reads a key; nothing else in them
differs. The lifetimes that the server counts, as of results, are shortened. What is not moved: leases.
"""

from __future__ import annotations

import hashlib
import time
from importlib.util import find_spec
from types import BuiltinFunctionType
from typing import Any, Final

from streamq import scripts
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.transport.sync_transport import SyncTransport

_NOW: Final = "streamq-testing:now"
"""Key that holds the moved time, in ms since the epoch."""
_READ: Final = "local time = redis.call('TIME')\n"
_READ_MOVED: Final = (
    f"{_READ}do local ms = tonumber(redis.call('GET', '@NOW'))\n"
    "if ms then time = {string.format('%.0f', math.floor(ms / 1000)), ms % 1000 * 1000} end end\n"
)


_AGE: Final = """
for _, key in ipairs(redis.call('KEYS', ARGV[4])) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
end
redis.call('SET', ARGV[2], ARGV[3])
"""


class Clock:
    """The clock of one open queue. pattern: of the keys that age. moved_ms: the time it shows; None while it
    is the server's own."""

    def __init__(self, transport: SyncTransport, pattern: str = "*") -> None:
        self._transport, self._pattern = transport, pattern
        self._key = f"{pattern.removesuffix('*')}{_NOW}"
        self._sent: list[tuple[scripts.Script, str, str]] = []
        self._server = question_calls.now
        self._handlers = _HandlersClock()
        self.moved_ms: int | None = None

    def now_ms(self) -> int:
        """Return the time of the test, in ms since the epoch."""
        return self._transport.run(question_calls.now())

    def move_to(self, at_ms: float) -> None:
        """Move the clock on to this time, never back. It does not run until it is moved again."""
        before = self.now_ms()
        at = max(round(at_ms), before)
        if self.moved_ms is None:
            self._begin()
        self.moved_ms = at
        age = ("EVAL", _AGE, 0, at - before, self._key, at, self._pattern)
        self._transport.run(Call(None, (), age, lambda reply: reply))
        self._handlers.move_to(at / 1000)

    def _begin(self) -> None:
        """Let the scripts of this process, and the question for the time, go by the moved clock."""

        def now(key: str = "") -> Call[int]:
            call = self._server(key)
            return call._replace(parse=lambda reply: self.moved_ms or call.parse(reply))

        question_calls.now = now
        for script in map(scripts.load, scripts.names()):
            if _READ in script.text:
                self._sent.append((script, script.text, script.sha))
                text = script.text.replace(_READ, _READ_MOVED.replace("@NOW", self._key))
                _change(script, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def close(self) -> None:
        """Put everything back."""
        for script, text, sha in self._sent:
            _change(script, text, sha)
        self._sent.clear()
        question_calls.now, self.moved_ms = self._server, None
        self._handlers.close()


def _change(script: scripts.Script, text: str, sha: str) -> None:
    object.__setattr__(script, "text", text)
    object.__setattr__(script, "sha", sha)


class _HandlersClock:
    """The clock that Python reads: moved by time-machine, if it is installed and nobody else moves time."""

    def __init__(self) -> None:
        self._travel: Any = None
        self._moved: Any = None

    def move_to(self, at: float) -> None:
        """Move it on to this time, in seconds since the epoch."""
        if self._moved is not None:
            self._moved.move_to(at)
        elif find_spec("time_machine") is not None and isinstance(time.time, BuiltinFunctionType):
            import time_machine  # noqa: PLC0415 - not everybody has it

            if not time_machine.escape_hatch.is_travelling():
                self._travel = time_machine.travel(at, tick=False)
                self._moved = self._travel.start()

    def close(self) -> None:
        """Put it back."""
        if self._travel is not None:
            self._travel.stop()
        self._travel = self._moved = None
