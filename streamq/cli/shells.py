"""Completion scripts for bash, zsh and fish.

Owns the script of each shell. All three walk the words before the cursor in the same way: through the
commands to a position, over the values of options. `describe` lists the positions and options.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import Final

from streamq.cli.describe import Argument, Place

ASKED: Final = ("TYPE", "WORKER", "APP")
"""Names that a server can list: task types, workers and apps."""
FILES: Final = ("FILE", "PATH")
FOLDERS: Final = ("FOLDER",)

Script = Callable[[list[Place]], str]


def kind(one: Argument) -> str:
    """Return what completes a value: a word of ASKED, `file`, `folder`, the choices themselves, or ''."""
    if one.choices:
        return " ".join(one.choices)
    if one.value == "APP" and not one.flags:
        return ""  # a module of the user's, not a name on a server
    if one.value in FILES or one.value in FOLDERS:
        return "file" if one.value in FILES else "folder"
    return one.value if one.value in ASKED else ""


def _valued(places: list[Place]) -> list[str]:
    """Return every option that takes a value, with its position before it."""
    return [f"{p.path} {flag}" for p in places for one in p.options if one.value for flag in one.flags]


def _ways(places: list[Place]) -> list[str]:
    return [f"{p.path} {word}".strip() for p in places for word in p.words]


def _pattern(texts: Iterable[str], between: str = "|") -> str:
    return between.join(shlex.quote(text) for text in texts)


def _values(places: list[Place]) -> list[tuple[str, str]]:
    """Return what completes the value of an option or the argument at a number, by position."""
    found = [
        (f"{p.path} {f}", kind(one)) for p in places for one in p.options for f in one.flags if one.value
    ]
    for p in places:
        for n, one in enumerate(p.arguments):
            found.append((f"{p.path} {n}{'+' if one.many else ''}", kind(one)))
    return [(text, what) for text, what in found if what]


_WALK: Final = """
    for ((n = {first}; n < {last}; n++)); do
        word=${{words[n]}}
        if [[ -n $wants ]]; then wants=; continue; fi
        case $word in
            -*) case "$place $word" in ({valued}) wants=$word ;; esac ;;
            *) case "${{place:+$place }}$word" in
                ({ways}) place=${{place:+$place }}$word ;;
                *) position=$((position + 1)) ;;
            esac ;;
        esac
    done
    [[ -z $wants && $cur == --*=* ]] && wants=${{cur%%=*}} {cut}
    case "$place ${{wants:-$position}}" in
{values}
    esac
"""


def _walk(places: list[Place], first: str, last: str, cut: str) -> str:
    values = "\n".join(
        f"        {_glob(text)}) kind={shlex.quote(what)} ;;" for text, what in _values(places)
    )
    return _WALK.format(
        first=first,
        last=last,
        cut=cut,
        valued=_pattern(_valued(places)),
        ways=_pattern(_ways(places)),
        values=values,
    )


def _glob(text: str) -> str:
    """Return the pattern for a number; with a + it is any number from there on, and only one precedes it."""
    return f"{shlex.quote(text[:-2])}[0-9]*" if text.endswith("+") else shlex.quote(text)


def _flags(place: Place) -> str:
    return " ".join(flag for one in place.options for flag in one.flags)


def bash(places: list[Place]) -> str:
    lists = "\n".join(
        f"        {shlex.quote(p.path + ' -')}) list={shlex.quote(_flags(p))} ;;" for p in places
    )
    words = "\n".join(
        f"        {shlex.quote(p.path)}) list={shlex.quote(' '.join(p.words))} ;;" for p in places if p.words
    )
    walk = _walk(places, "1", "${#words[@]} - 1", "&& cur=${cur#*=}")
    return f"""# bash completion for streamq: source <(streamq completion bash)
_streamq() {{
    # Not COMP_WORDS: it is broken at every : and =, as in an id or a URL.
    local line=${{COMP_LINE:0:COMP_POINT}} place= wants= kind= list= word cur n position=0
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${{words[${{#words[@]}} - 1]}}
{walk}
    COMPREPLY=()
    case $kind in
        {_pattern(ASKED)}) list=$("${{words[0]}}" completion --names "$kind" --line "$line" 2>/dev/null) ;;
        file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        folder) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")); return ;;
        *) list=$kind ;;
    esac
    if [[ -z $wants && $cur == -* ]]; then
        case "$place -" in
{lists}
        esac
    elif [[ -z $wants && -z $kind ]]; then
        case $place in
{words}
        esac
    fi
    COMPREPLY=($(compgen -W "$list" -- "$cur"))
}}
complete -F _streamq streamq
"""


def zsh(places: list[Place]) -> str:
    lists = "\n".join(
        f"        {shlex.quote(p.path + ' -')}) found=({' '.join(_described(o) for o in p.options)}) ;;"
        for p in places
    )
    words = "\n".join(
        f"        {shlex.quote(p.path)}) found=({' '.join(_colon(w, a) for w, a in p.words.items())}) ;;"
        for p in places
        if p.words
    )
    walk = _walk(places, "2", "CURRENT", "&& compset -P '*='")
    return f"""#compdef streamq
# zsh completion for streamq: source <(streamq completion zsh), or a file _streamq in a folder of $fpath
_streamq() {{
    local place= wants= kind= word cur=$words[CURRENT] n position=0
    local -a found
{walk}
    case $kind in
        {_pattern(ASKED)})
            word=${{(j: :)words[1,CURRENT]}}
            found=(${{(f)"$($words[1] completion --names $kind --line "$word" 2>/dev/null)"}})
            compadd -a found ;;
        file) _files ;;
        folder) _files -/ ;;
        ?*) found=(${{=kind}}); compadd -a found ;;
    esac
    if [[ -z $wants && $cur == -* ]]; then
        case "$place -" in
{lists}
        esac
        _describe -o option found
    elif [[ -z $wants && -z $kind ]]; then
        case $place in
{words}
        esac
        (($#found)) && _describe command found
    fi
}}
if [[ $funcstack[1] == _streamq ]]; then _streamq "$@"; else compdef _streamq streamq; fi
"""


def _described(one: Argument) -> str:
    return " ".join(_colon(flag, one.about) for flag in one.flags)


def _colon(word: str, about: str) -> str:
    return shlex.quote(f"{word}:{_plain(about)}")


def _plain(about: str) -> str:
    """Return a help text in one line, as argparse would print it."""
    return " ".join(about.replace("%%", "%").split())


def fish(places: list[Place]) -> str:
    lines = [line for place in places for line in _fish_lines(place)]
    return f"""# fish completion for streamq: streamq completion fish | source
function __streamq_at --description 'the place on the command line, and the number of the argument'
    set -l place
    set -l wants 0
    set -l position 0
    for word in (commandline -opc)[2..-1]
        if test $wants = 1
            set wants 0
        else if string match -q -- '-*' $word
            contains -- "$place $word" {_fish_list(_valued(places))}; and set wants 1
        else if contains -- (string trim -- "$place $word") {_fish_list(_ways(places))}
            set place (string trim -- "$place $word")
        else
            set position (math $position + 1)
        end
    end
    test "$place" = "$argv[1]"; or return 1
    test (count $argv) = 1; or contains -- $position $argv[2..-1]
end
function __streamq_names
    set -l words (commandline -opc)
    $words[1] completion --names $argv[1] --line "$words" 2>/dev/null
end
complete -c streamq -f
{chr(10).join(lines)}
"""


def _fish_list(texts: Iterable[str]) -> str:
    return _pattern(texts, " ")


def _fish_lines(place: Place) -> Iterable[str]:
    at = f"complete -c streamq -n {shlex.quote(f'__streamq_at {shlex.quote(place.path)}')}"
    for word, about in place.words.items():
        first = f"complete -c streamq -n {shlex.quote(f'__streamq_at {shlex.quote(place.path)} 0')}"
        yield f"{first} -a {shlex.quote(word)} -d {shlex.quote(_plain(about))}"
    for one in place.options:
        flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in one.flags)
        value = f" {_fish_value(one)}" if one.value else ""
        yield f"{at} {flags}{value} -d {shlex.quote(_plain(one.about))}"
    for n, one in enumerate(place.arguments):
        numbers = " ".join(str(k) for k in (range(n, 20) if one.many else (n,)))
        here = f"complete -c streamq -n {shlex.quote(f'__streamq_at {shlex.quote(place.path)} {numbers}')}"
        if kind(one):
            yield f"{here} {_fish_value(one)}"


def _fish_value(one: Argument) -> str:
    what = kind(one)
    if what == "file":
        return "-r -F"
    if what == "folder":
        return "-x -a '(__fish_complete_directories)'"
    if what in ASKED:
        return f"-x -a '(__streamq_names {what})'" if one.flags else f"-a '(__streamq_names {what})'"
    return f"{'-x ' if one.flags else ''}-a {shlex.quote(what)}" if what else "-x"


SCRIPTS: Final[dict[str, Script]] = {"bash": bash, "zsh": zsh, "fish": fish}
