"""Solvers: where they land, what they report, that each item walks its own schedule.

That they give the reference's latents with the real net is checked in the end-to-end tests.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sa3_core.sampling.samplers import SAMPLERS
from sa3_core.sampling.schedule import LogSNRShift, NoShift, build_sigmas

SHAPE = (2, 256, 12)


def no_noise():
    raise AssertionError("this solver draws no noise")


def run(name, velocity, x, sigmas, noise=None, on_step=lambda i, n, x0: None):
    return SAMPLERS[name](velocity, x, sigmas, noise=noise or no_noise, on_step=on_step)


def draw(seed, dtype=torch.float32):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def point_flow(target):
    """Velocity of a model that knows the data exactly."""
    return lambda x, t: (x - target) / t[:, None, None]


@pytest.mark.parametrize("level", [1.0, 0.7])
@pytest.mark.parametrize("name", ["pingpong", "euler", "heun", "dpmpp", "dpmpp-3m-sde"])
def test_lands_on_the_data_of_a_point_flow(rel_l2, name, level):
    target = draw(1)
    start = (1 - level) * target + level * draw(2)
    sigmas = build_sigmas(7, LogSNRShift(), [9, 12], level)
    out = run(name, point_flow(target), start, sigmas, lambda: draw(3))
    assert rel_l2(out, target) <= 1e-6


def test_rk4_follows_a_point_flow_to_any_level_above_zero(rel_l2):
    target, noise = draw(1, torch.float64), draw(2, torch.float64)
    sigmas = torch.tensor([[1.0, 0.8, 0.5, 0.05]] * 2, dtype=torch.float64)
    out = run("rk4", point_flow(target), noise, sigmas)
    assert rel_l2(out, 0.95 * target + 0.05 * noise) <= 1e-12


def test_rk4_never_asks_at_zero_and_ends_a_straight_flow_exactly(rel_l2):
    target, noise = draw(1, torch.float64), draw(2, torch.float64)
    asked = []

    def straight(x, t):
        asked.append(t)
        return noise - target

    sigmas = build_sigmas(3, LogSNRShift(), [12, 12]).double()
    out = run("rk4", straight, noise, sigmas)
    assert rel_l2(out, target) <= 1e-12
    assert len(asked) == 12
    assert float(torch.stack(asked).min()) == pytest.approx(1e-5)


def curved(x, t):
    """dx/dt = x: a flow whose solution is known."""
    return x


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("rk4", 4)])
def test_error_falls_with_the_order_of_the_solver(name, order):
    start = draw(5, torch.float64)

    def error(steps):
        sigmas = torch.linspace(1, 0, steps + 1, dtype=torch.float64).expand(2, -1)
        return (run(name, curved, start, sigmas) - start / math.e).norm().item()

    assert math.log2(error(16) / error(32)) == pytest.approx(order, abs=0.15)


def test_dpmpp_equals_its_formula_written_out(rel_l2):
    """Spec text step by step in float64, with a velocity that depends on x and t."""

    def velocity(x, t):
        return torch.sin(x) * (1 + t[:, None, None])

    row = [0.9, 0.75, 0.6, 0.42, 0.2, 0.0]
    x = draw(6, torch.float64)
    expected, old, h_last = x, None, None
    for i, (t, nxt) in enumerate(pairwise(row)):
        d = expected - t * velocity(expected, torch.full((2,), t, dtype=torch.float64))
        h = math.inf if nxt == 0 else math.log((1 - nxt) / nxt) - math.log((1 - t) / t)
        used = d
        if 0 < i < len(row) - 2:
            r = h_last / h
            used = (1 + 1 / (2 * r)) * d - 1 / (2 * r) * old
        c = (nxt - t) / ((1 - nxt) * t)
        expected = (nxt / t) * expected - (1 - nxt) * c * used
        old, h_last = d, h
    sigmas = torch.tensor([row, row], dtype=torch.float64)
    assert rel_l2(run("dpmpp", velocity, x, sigmas), expected) <= 1e-12


def test_dpmpp_from_pure_noise_weighs_its_first_step_as_the_reference(rel_l2):
    """The log SNR of t = 1 is that of 1e-10: with it the reference's latents are met."""
    row = [1.0, 0.9, 0.5, 0.0]
    start, target = draw(6, torch.float64), draw(1, torch.float64)

    def velocity(x, t):
        return (x - target * t[:, None, None]) / t[:, None, None]  # predicts target * t

    x = 0.9 * start + 0.1 * target
    log_snr = [math.log(1e-10), math.log(0.1 / 0.9), 0.0]
    weight = (log_snr[2] - log_snr[1]) / (log_snr[1] - log_snr[0]) / 2
    used = (1 + weight) * 0.9 * target - weight * target
    x = (0.5 / 0.9) * x + (1 - 0.5 / 0.9) * used
    seen = []
    sigmas = torch.tensor([row, row], dtype=torch.float64)

    def record(x, t):
        seen.append(x)
        return velocity(x, t)

    run("dpmpp", record, start, sigmas)
    assert rel_l2(seen[2], x) <= 1e-12


def test_pingpong_puts_fresh_noise_of_the_next_level_on_the_prediction():
    target = draw(1)
    sigmas = build_sigmas(3, NoShift(), [12, 12])
    seen, drawn = [], []

    def velocity(x, t):
        seen.append(x)
        return point_flow(target)(x, t)

    def noise():
        drawn.append(draw(10 + len(drawn)))
        return drawn[-1]

    run("pingpong", velocity, draw(2), sigmas, noise)
    assert len(drawn) == 2, "the last step ends at 0 and needs no noise"
    for i, x in enumerate(seen[1:]):
        t = sigmas[0, i + 1]
        torch.testing.assert_close(x, (1 - t) * target + t * drawn[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS.names)
def test_reports_every_step_with_the_predicted_data(name):
    target, told = draw(1), []
    sigmas = build_sigmas(5, LogSNRShift(), [12, 12])
    run(
        name,
        lambda x, t: (x - target) / t[:, None, None].clamp(min=1e-4),
        draw(2),
        sigmas,
        lambda: draw(3),
        lambda i, n, x0: told.append((i, n, x0)),
    )
    assert [(i, n) for i, n, _ in told] == [(i, 5) for i in range(5)]
    for _, _, x0 in told[:4]:
        torch.testing.assert_close(x0, target, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS.names)
def test_an_item_walks_its_own_schedule_whatever_its_neighbours_do(name):
    def velocity(x, t):
        return torch.tanh(x) + t[:, None, None]

    x, noise = draw(2), draw(3)
    rows = torch.stack(
        [build_sigmas(6, LogSNRShift(), [12])[0], build_sigmas(6, NoShift(), [12], 0.6)[0]]
    )
    both = run(name, velocity, x, rows, lambda: noise)
    for item in range(2):
        at = slice(item, item + 1)
        alone = run(name, velocity, x[at], rows[at], lambda at=at: noise[at])
        torch.testing.assert_close(both[at], alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS.names)
def test_a_schedule_of_zeros_returns_the_start(name):
    x = draw(2)
    out = run(name, lambda x, t: torch.ones_like(x), x, torch.zeros(2, 4))
    assert torch.equal(out, x)


@pytest.mark.parametrize("name", SAMPLERS.names)
def test_a_row_for_all_items_and_equal_neighbours_are_fine(name):
    row = torch.tensor([0.8, 0.5, 0.5, 0.5, 0.2, 0.0])
    out = run(name, curved, draw(2), row, lambda: draw(3))
    assert bool(torch.isfinite(out).all())


def test_registry_names():
    assert SAMPLERS.names == [
        "pingpong",
        "euler",
        "rk4",
        "heun",
        "dpmpp",
        "dpmpp-2m",
        "dpmpp-3m-sde",
    ]
    assert SAMPLERS["dpmpp-2m"] is SAMPLERS["dpmpp"], "one solver under two names"
