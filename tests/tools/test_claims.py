"""docs/claims.md names the source of every passage with numbers in the README and the docs."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import NAMES

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = "docs/claims.md"
PAGES = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
UNITS = r"s|ms|dB|kB|MB|GB|TB|%|GFLOP/s|MB/s|minutes|hours"
NUMBER = re.compile(rf"\d ?(?:{UNITS})(?![A-Za-z])")


def words(text: str) -> str:
    """Words alone: tables and marks write them between signs."""
    return " ".join(re.findall(r"\w+", text))


def passages(page: str) -> list[str]:
    """Paragraphs and tables of a page that hold a number with its unit."""
    blocks = (ROOT / page).read_text("utf-8").split("\n\n")
    return [words(block) for block in blocks if NUMBER.search(block)]


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below a heading of the page of claims."""
    section = (ROOT / CLAIMS).read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


MEASURED, ONCE, SET = table("Measured"), table("Measured once"), table("Set or counted")
ALL = [*MEASURED, *ONCE, *SET]


@pytest.mark.parametrize("page", [page for page in PAGES if page != CLAIMS])
def test_every_passage_with_numbers_has_one_source(page: str) -> None:
    starts = [words(row[1]) for row in ALL if row[0] == page]
    found = {text[:60]: [s for s in starts if text.startswith(s)] for text in passages(page)}
    assert {text for text, fits in found.items() if len(fits) != 1} == set()
    assert {start for fits in found.values() for start in fits} == set(starts)


def test_every_page_of_the_claims_is_there() -> None:
    assert len(MEASURED) > 10
    assert {row[0] for row in ALL} <= set(PAGES)


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row[1])
def test_a_measurement_names_its_command(row: list[str]) -> None:
    command = re.fullmatch(r"`python dev\.py bench (\w+)((?: --?\S+(?: \S+)?)*)`", row[2])
    assert command is not None, row[2]
    assert command[1] in NAMES
    assert (ROOT / "tests" / "benchmarks" / "cases" / f"{command[1]}.py").is_file()


@pytest.mark.parametrize("row", [*MEASURED, *ONCE], ids=lambda row: row[1])
def test_a_measurement_has_its_day(row: list[str]) -> None:
    assert date(2026, 1, 1) <= date.fromisoformat(row[3]) <= date(2100, 1, 1)
