"""The site of the documentation: every page stands on it, and a dead link or anchor ends its build."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("zensical", reason="the site generator is not installed")
ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "ops/docs/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load()


def test_the_site_is_built_with_every_page(tmp_path: Path) -> None:
    BUILD.build(tmp_path / "site")
    pages = [name for name in BUILD.sources().values() if name.endswith(".md")]
    assert len(pages) > 50
    home = (tmp_path / "site/index.html").read_text()
    for name in pages:
        folder = name.removesuffix(".md")
        built = tmp_path / "site" / ("index.html" if folder == "index" else f"{folder}/index.html")
        assert built.exists(), name
        assert folder == "index" or f'href="./{folder}/"' in home, f"{name} is not in the navigation"
    index, full = ((tmp_path / "site" / name).read_text() for name in ("llms.txt", "llms-full.txt"))
    for name in pages:
        place = f"{BUILD.project()['Documentation']}/{name.removesuffix('index.md').removesuffix('.md')}"
        assert f"]({place}" in index
        assert f"<!-- {place}" in full
    assert "There is no `.delay`" in index
    # Nothing is fetched from another host.
    assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', home) == [
        BUILD.project()["Documentation"] + "/"
    ]


def test_a_dead_link_ends_the_build(tmp_path: Path) -> None:
    titles = BUILD.stage(tmp_path / "docs")
    with (tmp_path / "docs/results.md").open("a") as page:
        page.write("\n[x](#not-here) [x](gone.md) [x](tasks.md#not-there)\n")
    with pytest.raises(SystemExit) as ended:
        BUILD.generate(tmp_path, titles)
    for link in ("not-here", "gone", "not-there"):
        assert link in str(ended.value), ended.value


def test_links_are_turned_and_code_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = {
        "README.md": "index.md",
        "ops/docs/site/tasks.md": "tasks.md",
        "ops/runbooks/failing.md": "runbooks/failing.md",
    }

    def turned(link: str, path: str) -> str:
        found: str = BUILD.turned(link, path, places, "https://host/source")
        return found

    assert turned("ops/docs/site/tasks.md#a", "README.md") == "tasks.md#a"
    assert turned("../docs/site/tasks.md", "ops/runbooks/failing.md") == "../tasks.md"
    assert turned("../../runbooks", "ops/docs/site/tasks.md") == "runbooks/index.md"
    assert turned("LICENSE", "README.md") == "https://host/source/LICENSE"
    assert turned("https://x.org/y.md", "README.md") == "https://x.org/y.md"
    with pytest.raises(SystemExit, match=r"README\.md: the link nowhere\.md leads nowhere"):
        turned("nowhere.md", "README.md")
    (tmp_path / "README.md").write_text("`[a](x.md)` and [b](LICENSE)\n```\n[c](x.md)\n```\n")
    (tmp_path / "LICENSE").write_text("")
    monkeypatch.setattr(BUILD, "ROOT", tmp_path)
    text = BUILD.page("README.md", places, "https://h")
    assert text == "`[a](x.md)` and [b](https://h/LICENSE)\n```\n[c](x.md)\n```\n"


def test_a_new_page_stands_in_a_section() -> None:
    found = dict(BUILD.sections({"tasks.md", "brand-new.md", "from-celery.md"}))
    assert found == {"How-to": ["tasks.md", "brand-new.md"], "Come from": ["from-celery.md"]}
