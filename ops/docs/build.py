"""Build the site of the documentation: python ops/docs/build.py FOLDER

Owns the section of each page and how the pages reach the site generator. Must not change what a
page says: the site and the repository show the same text, and only links are turned.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

import llms

ROOT: Final = Path(__file__).resolve().parents[2]
SITE: Final = ROOT / "ops/docs/site"

# Pages that stand elsewhere in the repository, and their names on the site.
ELSEWHERE: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "ops/README.md": "production.md",
    "ops/bench/README.md": "bench.md",
    "ops/capacity.md": "capacity.md",
    "ops/proof.md": "proof.md",
    "ops/security.md": "security.md",
    "ops/docs/site/README.md": "all-pages.md",
    "tests/chaos/README.md": "chaos.md",
    "tests/faults/README.md": "faults.md",
}
RUNBOOKS: Final = "ops/runbooks"

# What each section shows, in this order. A page that no pattern names is at the end of REST.
SECTIONS: Final = {
    "Start": "index tutorial examples all-pages",
    "How-to": (
        "tasks results schedules lanes uniqueness flows follow-ups steps live batches "
        "sealing blobs versions dependencies hooks *-changes"
    ),
    "Use it with": "django fastapi flask litestar sqlalchemy outbox testing sentry opentelemetry",
    "Come from": "migrate from-celery from-rq from-*",
    "Run it": (
        "production workers placement daemon redis dashboard kubernetes systemd upgrade capacity "
        "security support runbooks/*"
    ),
    "Understand": (
        "life-of-a-task what-survives what-happens-when when-not comparison design proof chaos faults "
        "bench contributing"
    ),
    "Reference": "cli values reference/* changelog",
}
REST: Final = "How-to"

_CODE_OR_LINK: Final = re.compile(r"^```.*?^```|`[^`\n]*`|\]\((?P<to>[^)\s]+)\)", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """Return the name on the site of each file, by its path in the repository."""
    found = dict(ELSEWHERE)
    for folder, prefix in ((SITE, ""), (ROOT / RUNBOOKS, "runbooks/")):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                found.setdefault(path.relative_to(ROOT).as_posix(), prefix + name)
    return found


def project() -> dict[str, str]:
    """Return the addresses of the project, by their names in pyproject.toml."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    urls: dict[str, str] = table["project"]["urls"]
    return urls


def turned(link: str, path: str, places: dict[str, str], source: str) -> str:
    """Return where a link in the file `path` leads on the site: to a page of it, else to the repository."""
    file, mark, anchor = link.partition("#")
    if "://" in link or not file or link.startswith("mailto:"):
        return link
    target = os.path.normpath((PurePosixPath(path).parent / file).as_posix())
    if target == RUNBOOKS:
        place = "runbooks/index.md"
    elif target in places:
        place = places[target]
    else:
        if not (ROOT / target).exists():
            raise SystemExit(f"{path}: the link {link} leads nowhere: {target} does not exist")
        return f"{source}/{target}{mark}{anchor}"
    here = PurePosixPath(places[path]).parent.as_posix()
    return os.path.relpath(place, here) + mark + anchor


def page(path: str, places: dict[str, str], source: str) -> str:
    """Return a page with its links turned; code stays as it is."""

    def one(found: re.Match[str]) -> str:
        link = found["to"]
        return found[0] if link is None else f"]({turned(link, path, places, source)})"

    return _CODE_OR_LINK.sub(one, (ROOT / path).read_text())


def title(text: str) -> str:
    """Return the heading of a page as plain text."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"a page has no heading: {text[:60]!r}")
    return found[1].replace("`", "")


def stage(folder: Path) -> dict[str, str]:
    """Write all pages and pictures to a folder; return the titles of the pages by their names on the site."""
    places, titles = sources(), {"runbooks/index.md": "Runbooks"}
    source = project()["Source"]
    for path, name in places.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".md"):
            text = page(path, places, source)
            titles[name] = "Home" if name == "index.md" else title(text)
            target.write_text(text)
        else:
            shutil.copyfile(ROOT / path, target)
    books = {name.removeprefix("runbooks/"): text for name, text in titles.items() if "runbooks/" in name}
    listed = "".join(f"* [{text}]({name})\n" for name, text in books.items() if name != "index.md")
    (folder / "runbooks/index.md").write_text(f"# Runbooks\n\nOne for each alert.\n\n{listed}")
    return titles


def sections(names: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each section with its pages."""
    placed: dict[str, list[str]] = {}
    left = sorted(names)
    for section, patterns in SECTIONS.items():
        found = [name for pattern in patterns.split() for name in left if fnmatch(name, pattern + ".md")]
        placed[section] = list(dict.fromkeys(found))
        left = [name for name in left if name not in found]
    placed[REST] += left
    yield from ((section, pages) for section, pages in placed.items() if pages)


def _entries(pages: dict[str, str]) -> str:
    return ", ".join(f"{{ {json.dumps(name)} = {json.dumps(file)} }}" for name, file in pages.items())


def configuration(titles: dict[str, str]) -> str:
    """Return the generator's settings. JSON strings and lists are TOML too."""
    nav = {name: {titles[one]: one for one in pages} for name, pages in sections(set(titles))}
    rows = [f"{json.dumps(name)} = [{_entries(pages)}]" for name, pages in nav.items()]
    address = json.dumps(project()["Documentation"])
    return f"""[project]
site_name = "streamq"
site_url = {address}
site_description = "A distributed task queue for Python on Redis Streams"
docs_dir = "docs"
site_dir = "site"
nav = [{", ".join("{ " + row + " }" for row in rows)}]
[project.theme]
font = false  # no request to another host
features = ["navigation.sections", "navigation.footer", "navigation.top", "navigation.path",
            "content.code.copy", "search.highlight"]
[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"
[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Light"
[project.markdown_extensions]
tables = {{}}
attr_list = {{}}
toc.permalink = true
toc.slugify.object = "pymdownx.slugs.slugify"  # anchors as in the repository
toc.slugify.kwds.case = "lower"
pymdownx.highlight = {{}}
pymdownx.superfences = {{}}
"""


def generate(work: Path, titles: dict[str, str]) -> Path:
    """Make the site of the pages in `work`/docs; exit with the report if a link or anchor leads nowhere."""
    (work / "zensical.toml").write_text(configuration(titles))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "zensical.toml"]
    found = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if found.returncode:
        report = re.sub(r"\x1b\[[0-9;]*m", "", found.stdout + found.stderr)
        raise SystemExit(report.partition("Traceback")[0])
    llms.write(work / "site", project()["Documentation"], sections(set(titles)), titles)
    return work / "site"


def build(out: Path) -> None:
    """Build the site into a folder."""
    with tempfile.TemporaryDirectory() as work:
        titles = stage(Path(work) / "docs")
        shutil.copytree(generate(Path(work), titles), out, dirs_exist_ok=True)
    print(f"{len(titles)} pages in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python ops/docs/build.py FOLDER")
    build(Path(sys.argv[1]))
