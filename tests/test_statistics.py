"""Intervals, held against published values and against simulation."""

import numpy as np
import pytest

from robotics_rl import statistics


def test_wilson_interval_of_a_known_case():
    # 95 of 100: the score interval solved by hand.
    z, p, n = 1.959964, 0.95, 100
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert statistics.wilson_interval(95, 100) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize("successes", [0, 100])
def test_wilson_interval_stays_within_0_and_1(successes):
    low, high = statistics.wilson_interval(successes, 100)
    assert 0 <= low <= successes / 100 <= high <= 1
    assert low < high


def test_three_seeds_take_the_multiplier_4_30():
    values = [1.0, 2.0, 3.0]
    assert statistics.student_t_half_width(values) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)


def test_two_seeds_have_no_interval():
    assert statistics.student_t_half_width([0.1, 0.9]) is None


def test_interquartile_mean_ignores_the_outer_quarters():
    assert statistics.interquartile_mean([-1000, 2, 4, 1000]) == 3


def test_bootstrap_interval_covers_the_mean_of_known_data_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        rows = rng.normal(size=(3, 40))
        low, high = statistics.bootstrap_interval_of_iqm(rows, n_resamples=300, seed=trial)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_keeps_the_weight_of_every_seed():
    rows = [[0.0] * 50, [1.0] * 50]  # within a seed nothing varies
    assert statistics.bootstrap_interval_of_iqm(rows) == (0.5, 0.5)
