"""The pages of this folder's subjects: their programs, run as printed."""

from __future__ import annotations

from pathlib import Path

from tests.frameworks.pages import environment, run_console, write_files

MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""


def test_the_django_page(url: str, tmp_path: Path) -> None:
    names = write_files("django.md", tmp_path)
    assert set(names) == {
        "mysite/settings.py", "shop/models.py", "shop/tasks.py", "shop/orders.py", "shop/tests.py",
    }  # fmt: skip
    (tmp_path / "manage.py").write_text(MANAGE)
    run_console("django.md", tmp_path, environment(url))
    run_console("django.md", tmp_path, environment(url), 1)


def test_the_outbox_page(url: str, tmp_path: Path) -> None:
    assert write_files("outbox.md", tmp_path) == ["shop.py", "program.py"]
    run_console("outbox.md", tmp_path, environment(url))
