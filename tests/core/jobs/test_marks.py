"""Marks follow what files hold, not where they lie or how old they are."""

from __future__ import annotations

import os

import pytest

from sa3_core.jobs import marks
from sa3_core.jobs.marks import content_mark


def test_a_copy_has_the_same_mark_and_another_content_has_not(tmp_path):
    first, copy, other = (tmp_path / name for name in "abc")
    first.write_bytes(b"x" * 1000)
    copy.write_bytes(b"x" * 1000)
    os.utime(copy, (1, 1))
    other.write_bytes(b"x" * 999 + b"y")
    assert content_mark(first) == content_mark(copy) != content_mark(other)
    assert content_mark(tmp_path / "none") == ""


@pytest.mark.parametrize("at", [0, 5000, 9999])
def test_large_files_are_read_in_parts_from_end_to_end(tmp_path, monkeypatch, at):
    """Of weights every value differs after another training; here one byte at a part's place."""
    monkeypatch.setattr(marks, "_PART", 16)
    path = tmp_path / "w"
    path.write_bytes(bytes(10_000))
    before = content_mark(path, whole=False)
    content = bytearray(10_000)
    content[max(0, at - 200) : at + 200] = b"\x01" * len(content[max(0, at - 200) : at + 200])
    path.write_bytes(bytes(content))
    assert content_mark(path, whole=False) != before
    assert content_mark(path, whole=False) != content_mark(path)
