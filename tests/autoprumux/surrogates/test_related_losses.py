"""Other tasks as the prior: the paper's interpolant within fine cells, the trend elsewhere."""

import math

import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.bilinear import BilinearSurrogate
from autoprumux.surrogates.related import Others, OtherStudy
from autoprumux.surrogates.related_losses import RelatedLosses

ACCURACY = 0.9
CORNERS = {
    Candidate(2, 0.6): 0.02,
    Candidate(2, 0.7): 0.03,
    Candidate(5, 0.6): 0.04,
    Candidate(5, 0.7): 0.06,
}
OTHERS = Others(
    [
        OtherStudy(
            name="another task",
            losses={c: 0.1 * math.log10(c.num_instances) + 0.02 for c in CORNERS},
            noise_std=0.003,
            log_speedups={},
        )
    ]
)


def fitted(
    losses: dict[Candidate, float], least: dict[Candidate, float] | None = None
) -> RelatedLosses:
    interpolant = BilinearSurrogate()
    known = {Candidate(1, 0.0): 0.0, **losses}
    interpolant.fit(list(known), [ACCURACY - loss for loss in known.values()])
    return RelatedLosses(
        losses,
        least or {},
        others=OTHERS,
        variances=dict.fromkeys(losses, 0.004**2),
        shared=0.004**2,
        interpolant=interpolant,
        accuracy=ACCURACY,
    )


def test_within_a_fine_cell_the_loss_is_the_papers_bilinear_interpolant() -> None:
    found = fitted(CORNERS).predict([Candidate(2, 0.65), Candidate(3, 0.65)])

    assert found.mean == pytest.approx([0.025, 0.025 + 0.025 / 3.0], abs=1e-12)
    assert (found.std > 0.0).all()
    assert (found.chances_trained == 1.0).all()


def test_across_a_wide_cell_the_knee_of_the_pruning_curve_is_kept() -> None:
    # A straight line from s = 0 to 0.95 would put more than half of the loss on s = 0.6.
    middle = fitted({Candidate(1, 0.95): 0.20}).predict([Candidate(1, 0.6)])

    assert middle.mean[0] < 0.5 * 0.20 * 0.6 / 0.95


def test_a_candidate_stopped_early_teaches_the_trend_if_that_was_too_hopeful() -> None:
    stopped, beside = Candidate(10, 0.6), Candidate(10, 0.0)
    hopeful = fitted(CORNERS).predict([stopped, beside]).mean

    far = fitted(CORNERS, {stopped: 0.40}).predict([beside]).mean[0]
    near = fitted(CORNERS, {stopped: 0.01}).predict([beside]).mean[0]

    assert hopeful[0] < 0.40
    assert far > hopeful[1] + 0.005
    assert near == pytest.approx(hopeful[1], abs=1e-9)
