"""`streamq schema`: what a change of a handler breaks is named before it is deployed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from streamq.cli import main
from streamq.schema.compare import breaks
from tests.cli.conftest import Capture

HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal, TypedDict
from uuid import UUID
from streamq import StreamQ

app = StreamQ("shop")

class Colour(Enum):
    RED = "red"
    BLUE = "blue"

@dataclass
class Line:
    sku: str
    number: int = 1

class Address(TypedDict, total=False):
    city: str
"""
BEFORE = """
@app.task
async def email(to: str, subject: str = "") -> str: ...

@app.task(name="order")
def order(id: UUID, lines: list[Line], at: datetime | None, more: dict[str, int], *rest: int) -> Line: ...

@app.task(name="paint")
def paint(colour: Colour, how: Literal["thin", "thick"], pair: tuple[int, str], address: Address) -> None: ...
"""


class Code:
    """A module of an app that is written anew."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        self.file, self.folder, self._capsys, self._n = folder / "schema.json", folder, capsys, 0
        monkeypatch.syspath_prepend(str(folder))

    def app(self, body: str) -> str:
        self._n += 1
        name = f"{self.folder.name.replace('-', '_')}_{self._n}"
        (self.folder / f"{name}.py").write_text(HEAD + body)
        return f"{name}:app"

    def export(self, body: str) -> None:
        assert main(["schema", "export", self.app(body), str(self.file)]) == 0
        self._capsys.readouterr()

    def check(self, body: str) -> list[str]:
        """What the check says of this code: for whom it breaks what."""
        code = main(["schema", "check", self.app(body), str(self.file), "--json"])
        found = json.loads(self._capsys.readouterr().out)["breaks"]
        assert code == (1 if found else 0)
        return [f"{one['type']}: {one['breaks']}: {one['what']}" for one in found]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Code:
    return Code(tmp_path, monkeypatch, capsys)


def test_the_file_describes_all_handlers(code: Code, capsys: Capture) -> None:
    code.export(BEFORE)
    types = json.loads(code.file.read_text())["types"]
    assert types["email"] == {
        "version": 1,
        "arguments": {
            "type": "object", "properties": {"to": {"type": "string"}, "subject": {"type": "string"}},
            "required": ["to"], "additionalProperties": False,
        },
        "result": {"type": "string"},
    }  # fmt: skip
    order = types["order"]["arguments"]["properties"]
    assert order["id"] == {"type": "string", "format": "uuid"}
    line = {
        "type": "object",
        "properties": {"sku": {"type": "string"}, "number": {"type": "integer"}},
        "required": ["sku"],
    }
    assert order["lines"] == {"type": "array", "items": line}
    assert order["at"] == {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
    assert order["rest"] == {"type": "array", "items": {"type": "integer"}}
    assert types["paint"]["arguments"]["properties"]["colour"] == {"enum": ["red", "blue"]}
    assert code.check(BEFORE) == []
    assert main(["schema", "export", code.app(BEFORE), "-"]) == 0
    assert json.loads(capsys.readouterr().out)["types"] == types


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        # Given a removed parameter, then `schema check` fails in CI and names it.
        ('to: str, subject: str = ""', "to: str", ["email: queued tasks: argument 'subject' is not known"]),
        ('= ""', '= "", cc: str = ""', ["email: old workers: argument 'cc' is not known"]),
        ('subject: str = ""', "subject: str", ["email: queued tasks: argument 'subject' has no default"]),
        (
            "to: str,", "to: list[str],",
            ["email: queued tasks: argument 'to': string does not fit array", "email: old workers: argument"],
        ),
        (
            ") -> str: ...", ") -> int: ...",
            ["email: results: the result: string does not", "email: results: the result: integer does not"],
        ),
        ("async def email", "async def letter", ["email: queued tasks: it is gone"]),
        (
            "number: int = 1", "number: int = 1\n    colour: str = ''",
            ["order: old workers: argument 'lines': in the list, field 'colour' is not", "order: results: "],
        ),
        (
            'BLUE = "blue"', 'GREEN = "green"',
            ["paint: queued tasks: argument 'colour': 'blue' is not among", "paint: old workers: argument"],
        ),
        ("[str, int]", "[str, float]", ["order: old workers: argument 'more': number does not fit integer"]),
        ("[int, str]", "[int, str, int]", ["paint: queued tasks: argument 'pair'", "paint: old workers: "]),
        ("datetime | None", "datetime", ["order: queued tasks: argument 'at': null does not fit date-time"]),
    ],
)  # fmt: skip
def test_what_breaks_is_named(
    code: Code, monkeypatch: pytest.MonkeyPatch, old: str, new: str, says: list[str]
) -> None:
    code.export(BEFORE)
    changed = (HEAD + BEFORE).replace(old, new, 1)
    monkeypatch.setitem(code.app.__globals__, "HEAD", "")
    found = code.check(changed)
    assert len(found) == len(says), found
    for said, start in zip(found, says, strict=True):
        assert said.startswith(start), found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            '@app.task\nasync def email(to: str, subject: str = "")',
            '@app.task(version=2)\nasync def email(to: list[str], subject: str = "", cc: str = "")',
        ),
        ("@app.task\nasync def email(", '@app.task(name="send", aliases=["email"])\nasync def email('),
        ("to: str, subject", "to: Any, subject"),
    ],
)  # fmt: skip
def test_what_is_provided_for_does_not_break(code: Code, old: str, new: str) -> None:
    code.export(BEFORE)
    changed = BEFORE.replace(old, new, 1)
    assert changed != BEFORE
    upcast = "\nemail.upcast(1)(lambda given: {**given, 'to': [given['to']]})\n" if "version=2" in new else ""
    assert code.check(changed + upcast) == []


def test_a_version_that_falls_and_extra_that_is_ignored(code: Code) -> None:
    code.export(BEFORE.replace("@app.task\n", "@app.task(version=3)\n", 1))
    [found] = code.check(BEFORE)
    assert "version fell from 3 to 1" in found
    code.export(BEFORE.replace("@app.task\n", '@app.task(extra="ignore")\n', 1))
    assert (
        code.check(
            BEFORE.replace("@app.task\n", '@app.task(extra="ignore")\n', 1).replace(', subject: str = ""', "")
        )
        == []
    )


def test_what_is_no_such_file_is_refused(code: Code, capsys: Capture) -> None:
    assert main(["schema", "check", code.app(BEFORE), str(code.file)]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    code.file.write_text("{}")
    assert main(["schema", "check", code.app(BEFORE), str(code.file)]) == 2
    assert "is not a file of `streamq schema export`" in capsys.readouterr().err
    assert main(["schema", "check", "not_there:app", str(code.file)]) == 2
    assert breaks({"types": {}}, {"types": {}}) == []
    assert "streamq" in sys.modules
