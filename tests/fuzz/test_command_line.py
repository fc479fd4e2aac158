"""Random arguments for every command: an exit code and a message, never a traceback."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq import StreamQ
from streamq.cli import COMMANDS, main
from streamq.embedded import EmbeddedServer
from tests.conftest import command
from tests.fuzz.hostile import thorough

SERVING = {"worker", "daemon", "bench", "demo", "dashboard", "tail", "wait", "dev"}
"""Commands that go on for long when their arguments happen to be right: these get a wrong one too."""
CODES = {0, 1, 2, 3, 6, 69, 77, 78, 130}

WORDS = [
    "email", "shop", "email:0:n1-0", "email:0:d1-5", "email:9999:n9999999999999999-99999999999999999999",
    "a:b:c", "{}", "[]", "{", '{"n":1}', "5m", "-5", "1e400", "nan", "0", "3", "high", "99999999999999999999",
    "/no/such", "/", "zero\x00byte", "", " ", "ü", "lone\udcff", "%s", "redis://127.0.0.1:1", "ftp://x",
    "redis://h:99999", "unix://x", "x" * 5000, "-", "--", "a{b}:c", "\x1b[31m",
]  # fmt: skip
word = st.one_of(st.sampled_from(WORDS), st.text(max_size=10))

COMMON = ["--app", "--json"]
SPAN = ["--older-than", "--newer-than"]
FILTERS = ["--type", "--group", "--error", *SPAN]
SHAPES: dict[str, list[tuple[list[str], list[str]]]] = {
    "task": [(["show"], COMMON), (["list"], [*COMMON, "--limit", "--error", *SPAN])],
    "cancel": [([], COMMON)], "run-now": [([], COMMON)], "pause": [([], [*COMMON, "--reason"])],
    "dead": [
        (["groups"], [*COMMON, *FILTERS]), (["list"], [*COMMON, *FILTERS, "--limit"]), (["show"], COMMON),
        (["requeue"], [*COMMON, *FILTERS, "--all", "--yes", "--dry-run", "--force"]), (["edit"], COMMON),
        (["purge"], [*COMMON, *FILTERS, "--all", "--yes", "--dry-run"]),
    ],
    "schedules": [
        (["list"], COMMON), (["show"], COMMON), (["pause"], [*COMMON, "--reason"]), (["resume"], COMMON),
        (["remove"], [*COMMON, "--yes"]), (["run-now"], COMMON), (["backfill"], [*COMMON, "--from", "--to"]),
    ],
    "enqueue": [([], [*COMMON, "--file", "--delay", "--priority", "--unique", "--debounce"])],
    "unique": [(["email"], [*COMMON, "--limit"])],
    "unlock": [(["email"], [*COMMON, "--force"]), (["email", "0" * 32], [*COMMON, "--force"])],
    "worker": [([], ["--processes", "--concurrency", "--types", "--drain-timeout", "--url"])],
    "daemon": [([], ["--claim-interval", "--tidy-interval", "--log-level", "--url"])],
}  # fmt: skip
"""The beginnings of each command, and options that it has."""
FLAGS = {"--json", "--all", "--yes", "--dry-run", "--force"}


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command line that is nearly right, or one that is not at all."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    beginning, options = draw(st.sampled_from(SHAPES.get(name, [([], COMMON)])))
    args = [*beginning, *draw(st.lists(word, max_size=3))]
    for option in draw(st.lists(st.sampled_from(options), max_size=2, unique=True)):
        args += [option] if option in FLAGS else [option, draw(word)]
    noise = draw(st.lists(st.one_of(word, st.just("--nonsense")), max_size=1))
    # These go on for long when their arguments happen to be right.
    return [name, *args, *noise, *(["--no-such-option"] if name in SERVING else [])]


@thorough(400)
@given(line=lines())
@pytest.mark.timeout(3600)
def test_any_command_line(valkey: EmbeddedServer, line: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMQ_URL", valkey.url)
        patch.setenv("STREAMQ_APP", "shop")
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
        patch.setattr("streamq.cli.target.PATIENCE", 0.05)
        assert main(line) in CODES


def test_the_commands_that_were_tried_did_nothing_to_the_neighbour(valkey: EmbeddedServer) -> None:
    """Every command once with nothing, and the server is as it was."""
    command(valkey.url, "FLUSHALL")
    app = StreamQ("shop", valkey.url)
    app.send("email", {"n": 0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMQ_URL", valkey.url)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
        for name in sorted(set(COMMANDS) - SERVING):
            assert main([name]) in CODES
    assert app.inspector.type_stats("email").ready == 1
    app.close()
