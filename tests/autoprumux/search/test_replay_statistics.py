import numpy as np
import pytest
from scipy.stats import wilcoxon

from autoprumux.search.replay_statistics import bootstrap, interval_of_means, signed_rank_p


def test_a_bootstrap_interval_holds_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(25):
        groups = [[shift, shift + 0.1] for shift in rng.normal(3.0, 1.0, 40)]
        ((low, high),) = bootstrap(groups, lambda values: [values.mean()])
        hits.append(low <= 3.05 <= high)

    assert 0.85 < np.mean(hits) <= 1.0


def test_values_of_one_group_do_not_make_an_interval_narrower():
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 1.0, 30)

    ((low, high),) = bootstrap([[v] for v in values], lambda v: [v.mean()])
    ((low_10, high_10),) = bootstrap([[v] * 10 for v in values], lambda v: [v.mean()])

    assert high_10 - low_10 == pytest.approx(high - low)


def test_intervals_of_means_are_those_of_a_bootstrap():
    values = np.random.default_rng(0).normal(0.0, 1.0, (50, 3))

    low, high = interval_of_means(values)

    ((first_low, first_high),) = bootstrap([[v] for v in values[:, 0]], lambda v: [v.mean()])
    assert low.shape == high.shape == (3,)
    assert low[0] == pytest.approx(first_low, abs=0.05)
    assert high[0] == pytest.approx(first_high, abs=0.05)


def test_a_signed_rank_test_is_that_of_scipy():
    rng = np.random.default_rng(1)
    many = np.round(rng.normal(-0.5, 2.0, 60), 1)
    few = np.array([-3.0, -1.5, -0.5, 1.0, -2.0, 0.7, -4.0])

    expected = wilcoxon(many, alternative="less", zero_method="pratt", method="asymptotic")
    exact = wilcoxon(few, alternative="less", method="exact")

    assert signed_rank_p(many) == pytest.approx(expected.pvalue, rel=1e-6)
    assert signed_rank_p(few) == pytest.approx(exact.pvalue)


@pytest.mark.parametrize(
    ("differences", "p"), [([0.0, 0.0], 1.0), ([-1.0], 0.5), ([1.0], 1.0), ([-1.0, -2.0], 0.25)]
)
def test_a_few_pairs_prove_little(differences, p):
    assert signed_rank_p(differences) == p
