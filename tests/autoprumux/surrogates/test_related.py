"""Other tasks narrow what is expected of a new one, and never outweigh it."""

import math

import numpy as np
import pytest

from autoprumux.errors import UsageError
from autoprumux.records import Candidate
from autoprumux.surrogates.related import MAX_STUDIES, Others, OtherStudy, RelatedSurrogate

GRID = [
    Candidate(n, s) for n in (1, 2, 5, 10) for s in (0.0, 0.6, 0.8, 0.95) if (n, s) != (1, 0.0)
]
NOISE = 0.003


def losses(width: float, pruned: float) -> dict[Candidate, float]:
    return {
        c: width * math.log(c.num_instances, 10) + pruned * (c.sparsity / 0.95) ** 6 for c in GRID
    }


def speeds(share: float) -> dict[Candidate, float]:
    return {c: -math.log((share + (1 - share) * (1 - c.sparsity)) / c.num_instances) for c in GRID}


def study(name: str, width: float, pruned: float, share: float = 0.1) -> OtherStudy:
    return OtherStudy(
        name=name,
        losses=losses(width, pruned),
        noise_std=NOISE,
        log_speedups=speeds(share),
    )


ALIKE = [study("a", 0.20, 0.10), study("b", 0.22, 0.08), study("c", 0.18, 0.09)]


def fitted(studies, known):
    surrogate = RelatedSurrogate(Others(studies), noise_std=NOISE)
    surrogate.fit(list(known), list(known.values()))
    return surrogate


def test_a_task_is_expected_to_lose_what_others_lost():
    expected = fitted(ALIKE, {}).predict(GRID)

    for candidate, prediction in zip(GRID, expected, strict=True):
        typical = losses(0.20, 0.09)[candidate]
        assert prediction.mean == pytest.approx(typical, abs=0.02)
        assert 0 < prediction.std < 0.15


def test_tasks_that_differ_make_predictions_wider():
    unlike = [study("a", 0.02, 0.20), study("b", 0.30, 0.01), study("c", 0.10, 0.10)]
    asked = [Candidate(10, 0.0), Candidate(5, 0.8), Candidate(2, 0.95)]

    narrow, wide = (fitted(studies, {}).predict(asked) for studies in (ALIKE, unlike))

    for one, other in zip(narrow, wide, strict=True):
        assert other.std > 1.2 * one.std


def test_own_measurements_outweigh_any_number_of_others():
    known = {Candidate(10, 0.0): 0.01, Candidate(1, 0.95): 0.02, Candidate(5, 0.8): 0.01}
    surrogate = fitted([*ALIKE, *ALIKE], known)

    for candidate, loss in known.items():
        (prediction,) = surrogate.predict([candidate])
        assert abs(prediction.mean - loss) < 0.35 * abs(losses(0.20, 0.09)[candidate] - loss)

    (beside,) = surrogate.predict([Candidate(10, 0.6)])
    assert beside.mean < 0.5 * losses(0.20, 0.09)[Candidate(10, 0.6)]


def test_surprising_measurements_widen_what_is_expected():
    asked = [Candidate(2, 0.8)]
    typical = {Candidate(10, 0.0): losses(0.20, 0.09)[Candidate(10, 0.0)]}

    usual, odd = (fitted(ALIKE, known) for known in (typical, {Candidate(10, 0.0): 0.02}))

    assert odd.predict(asked)[0].std > usual.predict(asked)[0].std


def test_the_baseline_loses_nothing_and_nothing_loses_less_than_nothing():
    surrogate = fitted(ALIKE, {Candidate(2, 0.0): -0.02})

    predictions = surrogate.predict([Candidate(1, 0.0), *GRID])

    assert predictions[0].mean == pytest.approx(0.0, abs=1e-6)
    assert predictions[0].std < 1e-3
    assert min(p.mean for p in predictions) >= 0.0


def test_the_covariance_is_symmetric_and_positive():
    others = Others(ALIKE)

    covariance = others.covariance(GRID, GRID)

    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_no_more_than_the_first_studies_count():
    studies = [study(str(number), 0.2, 0.1) for number in range(MAX_STUDIES + 3)]

    assert Others(studies).names == tuple(str(number) for number in range(MAX_STUDIES))


def test_a_candidate_that_occurs_twice_is_refused():
    surrogate = RelatedSurrogate(Others(ALIKE), noise_std=NOISE)

    with pytest.raises(UsageError, match="must occur once"):
        surrogate.fit([GRID[0], GRID[0]], [0.1, 0.2])
