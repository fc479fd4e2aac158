"""Find values in a text, however they are written there, and mask them. Pure.

Owns the matching. Text and values are compared by their letters and digits only, without case, accents,
escapes and separators; a run of four that is also in a value is masked with the word around it. So a value
that was cut, escaped, quoted, spaced or overlaps another one is found; one that was hashed is not.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

import orjson

MASK: Final = "•••"
_RUN: Final = 4
"""Letters and digits in a row that count as a piece of a value. A shorter value is masked as a word only."""
_LONGEST_FORMS: Final = 512
"""Length up to which encoded forms of a value are searched too."""
_ESCAPE: Final = re.compile(
    r"(?P<byte>(?:\\{1,8}x[0-9a-fA-F]{2})+)|(?P<unit>(?:\\{1,8}u[0-9a-fA-F]{4})+)"
    r"|(?P<wide>\\{1,8}U[0-9a-fA-F]{8})"
    r"|(?P<percent>(?:%[0-9a-fA-F]{2})+)|(?P<entity>&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});)"
    r"|(?P<name>\\{1,8}N\{[A-Z0-9 -]{1,80}\})|(?P<control>\\{1,8}[abfnrtv])"
)
_ELLIPSIS: Final = re.compile(r"…|\.\.\.|$")
_WORD: Final = re.compile(r"\w+")

Span = tuple[int, int]


class Values:
    """Values to mask in texts. Building it takes time proportional to their size."""

    def __init__(self, values: Iterable[str]) -> None:
        self._runs: set[str] = set()
        self._words: set[str] = set()
        self._literal: set[str] = set()
        self._beginnings: set[str] = set()
        for value in values:
            self._add(value)

    def _add(self, value: str) -> None:
        plain = _letters(value)
        if len(plain) < _RUN:
            self._words |= {plain} - {""}
            self._literal |= {one for one in _written(value) if one.strip()}
            return
        self._beginnings |= {plain[:2], plain[:3]}
        for form in (plain, *map(_letters, _encoded(value))):
            self._runs.update(form[n : n + _RUN] for n in range(len(form) - _RUN + 1))

    def masked(self, text: str) -> str:
        """Return the text without these values and their pieces."""
        spans = sorted(_whole_words(text, self._spans(text)))
        parts, end = list[str](), 0
        for first, last in spans:
            if first > end or not parts:
                parts.append(text[end:first])
            end = max(end, last)
        return MASK.join([*parts, text[end:]])

    def _spans(self, text: str) -> Iterator[Span]:
        letters, places = _canonical(text)
        for n in range(len(letters) - _RUN + 1):
            if letters[n : n + _RUN] in self._runs:
                yield places[n][0], places[n + _RUN - 1][1]
        yield from self._cut(text, letters, places)
        if self._words:
            yield from (m.span() for m in _WORD.finditer(text) if _letters(m[0]) in self._words)
        for one in self._literal:
            pattern = rf"(?<!\w){re.escape(one)}(?!\w)" if one.isalnum() else re.escape(one)
            yield from (m.span() for m in re.finditer(pattern, text))

    def _cut(self, text: str, letters: str, places: list[Span]) -> Iterator[Span]:
        """Yield the first letters of a value at the place where a text was cut."""
        ends, n = [end for _, end in places], 0
        for dots in _ELLIPSIS.finditer(text):
            while n < len(ends) and ends[n] <= dots.start():
                n += 1
            for size in (2, 3):
                if n >= size and letters[n - size : n] in self._beginnings and ends[n - 1] == dots.start():
                    yield places[n - size][0], ends[n - 1]


def _whole_words(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Yield the spans, each widened to the words that it begins and ends in."""
    for first, last in spans:
        begin, end = first, last
        while begin > 0 and text[begin - 1].isalnum() and text[begin].isalnum():
            begin -= 1
        while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
            end += 1
        yield begin, end


def _letters(text: str) -> str:
    return _canonical(text)[0]


def _canonical(text: str) -> tuple[str, list[Span]]:
    """Return the letters and digits of a text in one case, and where in the text each of them is."""
    letters, places = list[str](), list[Span]()
    for piece, span in _pieces(text):
        for letter in piece if piece.isascii() else unicodedata.normalize("NFKD", piece.casefold()):
            if letter.isalnum():
                letters.append(letter.lower())
                places.append(span)
    return "".join(letters), places


def _pieces(text: str) -> Iterator[tuple[str, Span]]:
    """Yield the characters of a text, and its escapes as what they stand for."""
    end = 0
    for found in _ESCAPE.finditer(text):
        yield from ((text[n], (n, n + 1)) for n in range(end, found.start()))
        yield _meant(found), found.span()
        end = found.end()
    yield from ((text[n], (n, n + 1)) for n in range(end, len(text)))


def _meant(found: re.Match[str]) -> str:
    kind, text = found.lastgroup, found[0]
    if kind in ("byte", "percent"):
        raw = bytes.fromhex(re.sub(r"[\\x%]", "", text))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    if kind == "unit":
        return bytes.fromhex(re.sub(r"[\\u]", "", text)).decode("utf-16-be", "replace")
    if kind == "wide":
        number = int(text.lstrip("\\")[1:], 16)
        return chr(number) if number < 0x110000 else ""
    if kind == "entity":
        return html.unescape(text)
    if kind == "name":
        try:
            return unicodedata.lookup(text[text.index("{") + 1 : -1])
        except KeyError:
            return text
    return " "


def _written(value: str) -> set[str]:
    """Return the ways in which a value is written as a literal."""
    dumped = orjson.dumps(value.encode("utf-8", "replace").decode()).decode()[1:-1]
    return {value, repr(value)[1:-1], ascii(value)[1:-1], dumped}


def _encoded(value: str) -> Iterator[str]:
    """Yield a value in the encodings that messages show: base64 at each offset, hexadecimal, backwards."""
    if len(value) > _LONGEST_FORMS:
        return
    raw = value.encode("utf-8", "replace")
    yield raw.hex()
    yield value[::-1]
    for skipped in range(3):
        # The first and last letters of base64 depend on the neighbours too.
        yield base64.b64encode(bytes(skipped) + raw).decode()[4 if skipped else 0 : -4]
