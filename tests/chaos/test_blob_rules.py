"""The rules about blobs find what they are for."""

from __future__ import annotations

from tests.chaos.blob_rules import OVER, filler, judged


def test_each_fault_is_found() -> None:
    assert list(judged({"a"}, {"a", "gone"}, {"a"})) == []
    assert [one.rule for one in judged({"a"}, set(), set())] == ["lost blob"]
    assert [one.detail for one in judged({"a"}, {"a"}, set())] == [
        "a task needs it, and the sweep removed it"
    ]
    assert [one.rule for one in judged(set(), {"a"}, {"a"})] == ["orphan"]


def test_what_is_large_belongs_to_its_key() -> None:
    assert filler("p0.0-17") != filler("p0.0-18")
    assert len(filler("p0.0-17")) > OVER
