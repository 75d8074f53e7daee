"""Regions as text and as lists: grammar, bars, percentages, errors, combining."""

from __future__ import annotations

import math

import pytest

from sa3_core.editing.regions import (
    Region,
    bar_seconds,
    invert_regions,
    merge_regions,
    new_duration,
    parse_durations,
    parse_regions,
    parse_time,
    regions_from_list,
)
from sa3_core.errors import InputError, RegionError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4-8", [(4, 8)]),
        ("4-8, 0:16.5-0:20, 90%-100%", [(4, 8), (16.5, 20), (36, 40)]),
        ("  4 - 8 ;16.5 -20\n30- 31.25  ", [(4, 8), (16.5, 20), (30, 31.25)]),
        ("4-8 10-12", [(4, 8), (10, 12)]),
        ("0-.5", [(0, 0.5)]),
        ("1.-2.", [(1, 2)]),
        ("0:04\u20130:08.5", [(4, 8.5)]),
        ("4-100%", [(4, 40)]),
        ("8-4, 4-8"[5:], [(4, 8)]),
        ("12-14, 4-8, 5-9", [(12, 14), (4, 8), (5, 9)]),
    ],
)
def test_text_as_people_write_it(text, expected):
    assert parse_regions(text, 40.0) == [Region(*pair) for pair in expected]


def test_hours_minutes_and_seconds():
    assert parse_regions("1:02:03-1:02:03.5", 4000.0) == [Region(3723, 3723.5)]
    assert parse_regions("61:00-62:30", 4000.0) == [Region(3660, 3750)]


def test_bars_count_from_one_and_end_where_the_last_one_starts():
    assert parse_regions("bar 5-9", 60.0, bpm=120) == [Region(8, 16)]
    assert parse_regions("Bars 1-2, bar 3", 60.0, bpm=60, beats_per_bar=3) == [
        Region(0, 3),
        Region(6, 9),
    ]
    assert parse_regions("bar 5 - 9\n4-6", 60.0, bpm=120) == [Region(8, 16), Region(4, 6)]
    assert parse_regions("bar 1.5-2", 60.0, bpm=120) == [Region(1, 2)]
    assert bar_seconds(4, 120) == 8


def test_a_region_that_starts_inside_may_lengthen_the_piece():
    regions = parse_regions("8-14, 2-3", 10.0)
    assert regions == [Region(8, 14), Region(2, 3)]
    assert new_duration(regions, 10.0) == 14
    assert new_duration(regions[1:], 10.0) == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8-4", ["'8-4'", "reversed", "0-10 s"]),
        ("4-4", ["'4-4'", "empty", "0-10 s"]),
        ("2-3, 10-12", ["'10-12'", "at or after the end", "continue the audio"]),
        ("100%-110%", ["'100%-110%'", "continue the audio"]),
        ("-2-4", ["'-2-4'", "before 0"]),
        ("nan-4", ["'nan-4'", "cannot be read", "0-10 s"]),
        ("4-inf", ["'4-inf'", "cannot be read"]),
        ("4", ["'4'", "cannot be read"]),
        ("4,5-8", ["'4'", "point for decimals"]),
        ("4-8-9", ["'4-8-9'", "cannot be read"]),
        ("4-8s", ["'4-8s'", "cannot be read"]),
        ("1e1-2", ["'1e1-2'", "cannot be read"]),
        ("0:75-0:80", ["'0:75-0:80'", "below 60"]),
        ("4-" + "9" * 400, ["finite"]),
        ("", ["No region", "0-10 s"]),
        (" ,; ", ["No region"]),
        ("bar 5-9", ["'bar5-9'", "BPM"]),
        ("<script>-" + "x" * 100, ["...'"]),
    ],
)
def test_bad_regions_are_named_with_what_is_allowed(text, words):
    with pytest.raises(RegionError) as error:
        parse_regions(text, 10.0)
    for word in words:
        assert word in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", 12.5),
        (" 0:16.5 ", 16.5),
        ("1:02.5", 62.5),
        ("1:02:03", 3723),
        (".5", 0.5),
        ("90", 90),
    ],
)
def test_a_time_reads_alike_alone_and_in_a_region(text, seconds):
    assert parse_time(text) == seconds
    assert parse_regions(f"0-{text}", 10.0)[0].end == seconds


@pytest.mark.parametrize(
    "text", ["", "ten", "1:75", "1:60:00", "1:2:3:4", "-1", "1e1", "50%", "1,5"]
)
def test_what_is_no_time_is_no_time_in_a_region_either(text):
    with pytest.raises(InputError, match="is no time"):
        parse_time(text)
    if text not in ("-1", "50%"):  # a region knows these two: before the start, a share
        with pytest.raises(RegionError):
            parse_regions(f"0-{text}", 10.0)


def test_durations_are_times_in_a_row():
    assert parse_durations("10, 20.5; 0:45\n1:00:00") == [10, 20.5, 45, 3600]
    with pytest.raises(InputError, match="durations: '1:75' is no time: after a colon"):
        parse_durations("10, 1:75")
    with pytest.raises(InputError, match="more than 0"):
        parse_durations("10, 0")


def test_bad_bars_and_settings_are_named():
    with pytest.raises(RegionError, match="before bar 1"):
        parse_regions("bar 0-4", 10.0, bpm=120)
    with pytest.raises(RegionError, match="reversed"):
        parse_regions("bar 4-2", 10.0, bpm=120)
    with pytest.raises(InputError, match="bpm is 0"):
        parse_regions("bar 1-2", 10.0, bpm=0)
    with pytest.raises(InputError, match="beats_per_bar is nan"):
        parse_regions("bar 1-2", 10.0, bpm=120, beats_per_bar=math.nan)
    with pytest.raises(InputError, match="duration is 0"):
        parse_regions("1-2", 0.0)


def test_lists_from_other_nodes():
    assert regions_from_list([(1, 2), [3.5, 4]], 10.0) == [Region(1, 2), Region(3.5, 4)]
    for bad, words in (
        ([(2, 1)], "reversed"),
        ([(1, math.nan)], "finite"),
        ([(11, 12)], "continue the audio"),
        ([(1, 2, 3)], "no \\(start, end\\) pair"),
        ([5], "pair"),
        (["ab"], "pair"),
        ([], "empty"),
    ):
        with pytest.raises(RegionError, match=words):
            regions_from_list(bad, 10.0)


def test_merging_joins_what_overlaps_or_touches():
    regions = [Region(5, 6), Region(1, 2), Region(2, 3), Region(2.5, 2.7), Region(5.5, 8)]
    assert merge_regions(regions) == [Region(1, 3), Region(5, 8)]
    assert merge_regions([]) == []


def test_inverting_leaves_the_rest_and_twice_is_the_same():
    regions = [Region(2, 3), Region(0, 1), Region(2.5, 4)]
    inverse = invert_regions(regions, 10.0)
    assert inverse == [Region(1, 2), Region(4, 10)]
    assert invert_regions(inverse, 10.0) == merge_regions(regions)
    assert invert_regions([Region(4, 20)], 10.0) == [Region(0, 4)]
    with pytest.raises(RegionError, match="cover all"):
        invert_regions([Region(0, 10)], 10.0)


@pytest.mark.parametrize("text", ["10,5", "3, 10,5", "10,50;4"])
def test_a_decimal_comma_in_durations_asks_which_was_meant(text):
    with pytest.raises(InputError, match=r"'10,50?' can be read in two ways; write 10\.50?"):
        parse_durations(text)


def test_lists_of_durations_are_read_as_before():
    assert parse_durations("10, 5") == [10, 5]
    assert parse_durations("10,20,30") == [10, 20, 30]
    assert parse_durations("0:45,20.5") == [45, 20.5]
