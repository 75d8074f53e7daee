"""Solvers against k-diffusion's formulas, and against flows whose solution is known.

The formulas are k-diffusion's, written anew from its published algorithms, in its own variables:
y = x / (1 - t), sigma = t / (1 - t), denoised(y, sigma) the predicted data. They cannot start
from t = 1, where sigma is infinite, so schedules start just below it; what is done from t = 1
itself is tested on its own.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sa3_core.sampling.noise import ItemNoise
from sa3_core.sampling.samplers import SAMPLERS
from sa3_core.sampling.schedule import LogSNRShift, build_sigmas

SHAPE = (2, 4, 6)
ROWS = {
    "published": build_sigmas(8, LogSNRShift(), [500])[0, 1:].tolist(),
    "even": [0.98, 0.84, 0.7, 0.56, 0.42, 0.28, 0.14, 0.0],
    "ends above 0": [0.95, 0.7, 0.6, 0.3, 0.25, 0.1],
    "one step": [0.9, 0.0],
    "two steps": [0.9, 0.4, 0.0],
}


def denoise(y, sigma):
    """A prediction that is curved in both its arguments."""
    return torch.tanh(y / (1 + sigma)) + 0.3 * math.sin(3 * sigma / (1 + sigma))


def velocity(x, t):
    """The same prediction as the velocity of the flow."""
    level = float(t[0])
    return (x - denoise(x / (1 - level), level / (1 - level))) / level


def draw(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- k-diffusion's formulas ---------------------------------------------------------------------
def k_heun(y, sigmas, noise, model=denoise):
    for sigma, target in pairwise(sigmas):
        slope = (y - model(y, sigma)) / sigma
        ahead = y + slope * (target - sigma)
        if target > 0:
            slope = (slope + (ahead - model(ahead, target)) / target) / 2
        y = y + slope * (target - sigma)
    return y


def k_dpmpp_2m(y, sigmas, noise, model=denoise):
    old, old_h = None, None
    for sigma, target in pairwise(sigmas):
        d = model(y, sigma)
        h = math.log(sigma / target) if target > 0 else math.inf
        used = d
        if old is not None and target > 0:
            used = (1 + h / (2 * old_h)) * d - h / (2 * old_h) * old
        y = (target / sigma) * y - math.expm1(-h) * used
        old, old_h = d, h
    return y


def k_dpmpp_3m_sde(y, sigmas, noise, model=denoise):
    past, lengths = [], []  # the newest last
    for sigma, target in pairwise(sigmas):
        d = model(y, sigma)
        if target == 0:
            return d
        h = math.log(sigma / target)
        y = math.exp(-2 * h) * y - math.expm1(-2 * h) * d
        phi_2 = math.expm1(-2 * h) / (2 * h) + 1
        phi_3 = phi_2 / (2 * h) - 0.5
        if len(past) > 1:
            r0, r1 = lengths[-1] / h, lengths[-2] / h
            near, far = (d - past[-1]) / r0, (past[-1] - past[-2]) / r1
            first = near + (near - far) * r0 / (r0 + r1)
            y = y + phi_2 * first - phi_3 * (near - far) / (r0 + r1)
        elif past:
            y = y + phi_2 * (d - past[-1]) / (lengths[-1] / h)
        y = y + noise() * target * math.sqrt(-math.expm1(-2 * h))
        past.append(d)
        lengths.append(h)
    return y


ORACLES = {"heun": k_heun, "dpmpp-2m": k_dpmpp_2m, "dpmpp-3m-sde": k_dpmpp_3m_sde}


def drawn(seed=50):
    """Noise by call, the same for a solver and its oracle."""
    calls = iter(range(seed, seed + 1000))
    return lambda: draw(next(calls))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", ORACLES)
def test_equals_k_diffusion_in_its_own_variables(rel_l2, name, row):
    levels, x = ROWS[row], draw(1)
    sigmas = [t / (1 - t) for t in levels]
    y = ORACLES[name](x / (1 - levels[0]), sigmas, drawn())
    expected = y * (1 - levels[-1])
    exact = torch.tensor([levels] * 2, dtype=torch.float64)
    on_step = lambda i, n, x0: None  # noqa: E731
    got = SAMPLERS[name](velocity, x, exact, noise=drawn(), on_step=on_step)
    assert rel_l2(got, expected) <= 1e-10
    single = SAMPLERS[name](velocity, x.float(), exact.float(), noise=drawn(), on_step=on_step)
    assert single.dtype == torch.float32
    assert rel_l2(single, expected) <= 1e-5


# --- the limit at pure noise --------------------------------------------------------------------
def first_step(name, level, noise=None):
    """x after one step from `level` to 0.5."""
    row = torch.tensor([[level, 0.5]] * 2, dtype=torch.float64)
    x = draw(1)

    def model(x, t):
        return (x - (0.4 * x + 0.2)) / t[:, None, None]

    drawn = noise or (lambda: torch.zeros(SHAPE, dtype=torch.float64))
    return x, SAMPLERS[name](model, x, row, noise=drawn, on_step=lambda i, n, x0: None)


def test_heun_from_pure_noise_is_a_step_of_first_order(rel_l2):
    x, got = first_step("heun", 1.0)
    assert rel_l2(got, 0.5 * (0.4 * x + 0.2) + 0.5 * x) <= 1e-12
    before = first_step("heun", 1 - 1e-3)[1]
    assert rel_l2(before, got) > 10, "the corrector grows beyond bound: there is no limit"


def test_the_sde_from_pure_noise_is_pingpongs_step(rel_l2):
    x, got = first_step("dpmpp-3m-sde", 1.0, lambda: draw(2))
    assert rel_l2(got, 0.5 * (0.4 * x + 0.2) + 0.5 * draw(2)) <= 1e-12
    near = first_step("dpmpp-3m-sde", 1 - 1e-9, lambda: draw(2))[1]
    assert rel_l2(near, got) <= 1e-6, "it is what the formula tends to"


def test_dpmpp_2m_from_pure_noise_tends_to_the_same_step(rel_l2):
    got, near = (first_step("dpmpp-2m", level)[1] for level in (1.0, 1 - 1e-9))
    assert rel_l2(near, got) <= 1e-6


# --- order of convergence -----------------------------------------------------------------------
MEAN, SPREAD = 0.5, 0.6  # of the data: normally distributed, so the best prediction is known


def best_velocity(x, t):
    """v of the exact prediction for normal data, from y and sigma."""
    t = t[:, None, None]
    y, sigma = x / (1 - t), t / (1 - t)
    data = (SPREAD**2 * y + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)
    return (x - data) / t


def along(sigmas):
    """Levels [2, n + 1] of given sigmas."""
    t = torch.tensor(sigmas, dtype=torch.float64)
    return (t / (1 + t)).expand(2, -1)


def solved(name, sigmas, model):
    """(solver's y, start's y) for the whole walk, without noise."""
    y = draw(3)
    rows = along(sigmas)
    silent = lambda: torch.zeros(SHAPE, dtype=torch.float64)  # noqa: E731
    x = SAMPLERS[name](
        model, y * (1 - rows[0, 0]), rows, noise=silent, on_step=lambda i, n, x0: None
    )
    return x / (1 - rows[0, -1]), y


def order_of(name, model, exact, steps):
    """log2 of the errors' ratio where every step is halved."""
    errors = []
    for count in (steps, 2 * steps):
        sigmas = even_in_log(count)
        got, start = solved(name, sigmas, model)
        errors.append((got - exact(start, sigmas[0], sigmas[-1])).norm().item())
    return math.log2(errors[0] / errors[1])


def even_in_log(steps):
    return [math.exp(2 - 4 * i / steps) for i in range(steps + 1)]


def flow(y, sigma, target):
    """The probability flow of normal data, solved."""
    return MEAN + (y - MEAN) * math.sqrt((SPREAD**2 + target**2) / (SPREAD**2 + sigma**2))


TURN = 0.3  # of y in the prediction 0.3 y + cos(log sigma)


def turning_velocity(x, t):
    """v of a prediction that depends on y and turns with the noise level."""
    t = t[:, None, None]
    y, sigma = x / (1 - t), t / (1 - t)
    return (x - (TURN * y + torch.cos(torch.log(sigma)))) / t


def drift(y, sigma, target):
    """The reverse SDE (eta 1) of that prediction with its noise left out, solved."""
    rate = 2 * (1 - TURN)

    def forced(level):
        place = -math.log(level)
        return 2 * (rate * math.cos(place) + math.sin(place)) / (1 + rate**2)

    return forced(target) + (y - forced(sigma)) * (target / sigma) ** rate


@pytest.mark.parametrize(
    ("name", "model", "exact", "steps", "order"),
    [
        ("euler", best_velocity, flow, 32, 1),
        ("heun", best_velocity, flow, 32, 2),
        ("dpmpp-2m", best_velocity, flow, 32, 2),
        ("rk4", best_velocity, flow, 32, 4),
        ("dpmpp-3m-sde", turning_velocity, drift, 512, 2),
    ],
)
def test_error_falls_with_the_order_of_the_solver(name, model, exact, steps, order):
    """dpmpp-3m-sde as published is of order 2: see its docstring."""
    assert order_of(name, model, exact, steps) == pytest.approx(order, abs=0.25)


def test_the_sde_ends_with_the_datas_mean_and_spread():
    """The noise that is put in has the right strength: else the spread would be another."""
    shape = (1, 100, 400)
    generator = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    row = build_sigmas(100, LogSNRShift(), [500])
    out = SAMPLERS["dpmpp-3m-sde"](
        best_velocity_from_noise, noise(), row.double(), noise=noise, on_step=lambda i, n, x0: None
    )
    assert out.mean().item() == pytest.approx(MEAN, abs=0.01)
    level = float(row[0, -2])  # what is predicted there is narrower than the data by the noise
    narrowed = SPREAD**2 / math.hypot(SPREAD, level / (1 - level))
    assert out.std().item() == pytest.approx(narrowed, abs=0.005)


def best_velocity_from_noise(x, t):
    """As best_velocity, with the limit at t = 1: the mean is all that is known."""
    if float(t[0]) == 1:
        return x - MEAN
    return best_velocity(x, t)


# --- schedules that rise, noise by item ---------------------------------------------------------
def test_the_sde_follows_a_rising_step_as_the_flow_does(rel_l2):
    rising = torch.tensor([[0.7, 0.909, 0.705, 0.362, 0.0]] * 2, dtype=torch.float64)
    target, start = draw(4), draw(5)

    def point(x, t):
        return (x - target) / t[:, None, None]

    x = 0.3 * target + 0.7 * start
    seen = []

    def record(x, t):
        seen.append(x)
        return point(x, t)

    out = SAMPLERS["dpmpp-3m-sde"](record, x, rising, noise=drawn(), on_step=lambda i, n, x0: None)
    assert rel_l2(seen[1], 0.091 * target + 0.909 * start) <= 1e-12
    assert rel_l2(out, target) <= 1e-12


def test_a_rising_step_leaves_no_slope_behind():
    """0.7 and 0.705 all but coincide: a slope through them would be noise a hundredfold."""
    rising = torch.tensor([[0.7, 0.909, 0.705, 0.362, 0.0]] * 2, dtype=torch.float64)
    out = SAMPLERS["dpmpp-3m-sde"](
        velocity, draw(1), rising, noise=drawn(), on_step=lambda i, n, x0: None
    )
    assert out.abs().max() < 2


def test_noise_of_an_item_does_not_depend_on_its_neighbours():
    """Seeds, durations and schedules of its own: the same bits alone and in a batch."""
    rows = torch.stack(
        [
            build_sigmas(6, LogSNRShift(rate=1.0), [length], level)[0]
            for length, level in ((30, 1.0), (9, 0.7), (21, 1.0))
        ]
    )
    frames, total, seeds = [12, 6, 9], 12, [5, 900, 7]

    def sample(items):
        noise = ItemNoise([seeds[i] for i in items], items, [frames[i] for i in items], total, 4)
        return SAMPLERS["dpmpp-3m-sde"](
            lambda x, t: torch.tanh(x) + t[:, None, None],
            noise(),
            rows[items],
            noise=noise,
            on_step=lambda i, n, x0: None,
        )

    both = sample([0, 1, 2])
    for item in range(3):
        assert torch.equal(both[item : item + 1], sample([item]))
