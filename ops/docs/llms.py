"""Make llms.txt and llms-full.txt from the pages of the site, for programs that write code with streamq.

Owns the form of both. Their first lines, in llms-head.txt, are what such programs get wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

HEAD: Final = (Path(__file__).parent / "llms-head.txt").read_text()


def write(
    folder: Path, address: str, sections: Iterable[tuple[str, list[str]]], titles: Mapping[str, str]
) -> None:
    """Write both files to the site in `folder`; the pages are in `folder`/../docs."""
    index, full = f"{HEAD}\n", f"{HEAD}\n"
    for section, names in sections:
        index += f"## {section}\n\n"
        for name in names:
            place = f"{address}/{name.removesuffix('.md')}/".replace("/index/", "/")
            index += f"- [{titles[name]}]({place})\n"
            text = (folder.parent / "docs" / name).read_text().strip()
            full += f"<!-- {place} -->\n\n{text}\n\n"
        index += "\n"
    (folder / "llms.txt").write_text(index)
    (folder / "llms-full.txt").write_text(full)
