"""Buckets hold rows that are alike and nearly as long as each other."""

from __future__ import annotations

import random
from pathlib import Path

from sa3_core.cli.arguments import build_parser
from sa3_core.jobs.buckets import MOST_PADDING, bucket_rows, padding_share
from sa3_core.jobs.row import Row


def buckets(cells, largest=8):
    defaults = build_parser().parse_args(["generate", "--model", "m", "--out", "o"])
    rows = [Row(f"r{n}", n, {"prompt": "x", **cell}) for n, cell in enumerate(cells)]
    return bucket_rows([(row, row.values(defaults, Path())) for row in rows], largest)


def test_padding_stays_small_and_every_row_is_in_one_bucket():
    drawn = random.Random(0)
    made = buckets([{"seconds": f"{drawn.uniform(1, 300):.2f}"} for _ in range(300)])
    assert all(padding_share(bucket.frames) < MOST_PADDING for bucket in made)
    assert sorted(row.line for bucket in made for row in bucket.rows) == list(range(300))
    assert len(made) < 100  # not one by one
    assert max(len(bucket.rows) for bucket in made) <= 8


def test_padding_of_a_whole_job_costs_less_than_five_percent():
    """Over 1,000 rows of mixed lengths in batches of 16, and most batches are full."""
    drawn = random.Random(1)
    made = buckets(
        [
            {"seconds": f"{drawn.choice((5, 10, 30)) * drawn.uniform(0.5, 2):.2f}"}
            for _ in range(1000)
        ],
        16,
    )
    used = sum(sum(bucket.frames) for bucket in made)
    computed = sum(len(bucket.frames) * max(bucket.frames) for bucket in made)
    assert 1 - used / computed < 0.05
    assert 1000 / len(made) > 8


def test_other_settings_and_sources_are_not_mixed():
    kinds = [{}, {"cfg": "2"}, {"model": "n"}, {"negative": "y"}, {"init_audio": "s.wav"}]
    made = buckets([*kinds, *kinds])
    assert sorted(len(bucket.rows) for bucket in made) == [1, 1, 2, 2, 2, 2]


def test_rows_of_one_model_follow_each_other():
    made = buckets([{"model": "ab"[n % 2], "steps": str(n)} for n in range(8)])
    models = [bucket.rows[0].cells["model"] for bucket in made]
    assert models in (list("aaaabbbb"), list("bbbbaaaa"))


def test_one_row_each():
    assert [len(bucket.rows) for bucket in buckets([{}] * 4, 1)] == [1] * 4
