"""Rivals that are no samplers of the package: the paper's own design, and BoTorch.

They play on a table (`search_tables`), told what is measured before each choice. BoTorch comes
with the extra `rivals`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from search_tables import BASELINE, Table

from autoprumux.ranking import NUM_PREDICTED
from autoprumux.records import Candidate, Measurement
from autoprumux.search.acquisition import verified_best
from autoprumux.search.replay_summary import REGRET_AFTER
from autoprumux.surrogates.pairs import PaperPair

PAPER_WIDTHS = (1, 2, 5, 10)
PAPER_SPARSITIES = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95)
"""The paper trains 15 pruned and multiplexed models, and 9 with N = 1 or s = 0."""

NUM_RANDOM = 3
"""Random trials after the baseline, before BoTorch's models say what comes next."""

_TIE = 1e-9

Measured = Mapping[Candidate, Measurement]


def play_paper(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield what the paper's design does: its training cells, then its top three.

    Nothing is chosen before all of the cells are trained, so their order is drawn at random; the
    baseline is first. Its table of speed-ups holds this task's own, which is the best case.
    """
    measured = table.measured
    cells = [c for c in table.space.candidates if _is_trained_by_paper(c) and c != BASELINE]
    order = [cells[i] for i in np.random.default_rng(seed).permutation(len(cells))]
    fitted = {c: measured[c] for c in [BASELINE, *order] if c in measured}
    rest = [c for c in table.space.candidates if c not in {BASELINE, *order}]
    return summarise_order(table, [BASELINE, *order, *_paper_top(table, measured, fitted, rest)])


def play_botorch(table: Table, seed: int, max_trials: int) -> dict[str, Any]:
    """Yield what constrained expected improvement of two Gaussian processes does.

    Width and sparsity are places in ordered lists, as for Optuna's samplers; all candidates left
    are compared, so that none is tried twice. It goes on until the best is measured.
    """
    measured = table.measured
    best = verified_best(measured, table.budget)
    order: list[Candidate] = []
    for candidate in _botorch_order(table, measured, seed):
        order.append(candidate)
        known = {c: measured[c] for c in order if c in measured}
        is_found = verified_best(known, table.budget) >= best - _TIE
        if is_found and len(order) >= max_trials:
            break
    return summarise_order(table, order, stop=max_trials)


def summarise_order(
    table: Table, order: Sequence[Candidate], stop: int | None = None
) -> dict[str, Any]:
    """Yield what a search was that tried candidates in this order.

    Args:
        table: The task.
        order: Candidates, none of them twice.
        stop: Trials that it would have made; the rest tells when the best was measured.
    """
    measured = table.measured
    best = verified_best(measured, table.budget)

    def regret(number: int) -> float:
        known = {c: measured[c] for c in order[:number] if c in measured}
        return 1.0 - verified_best(known, table.budget) / best

    until_stop = min(stop or len(order), len(order))
    firsts = (number for number in range(1, len(order) + 1) if regret(number) <= _TIE)
    return {
        "seed": table.seed,
        "num_until_best": next(firsts, None),
        "num_repeated": 0,
        "num_until_stop": until_stop,
        "regret_at_stop": regret(until_stop),
        "regret_after": {number: regret(number) for number in REGRET_AFTER},
    }


def _is_trained_by_paper(candidate: Candidate) -> bool:
    is_width = candidate.num_instances in PAPER_WIDTHS
    return is_width and candidate.sparsity in PAPER_SPARSITIES


def _paper_top(
    table: Table, measured: Measured, fitted: Measured, rest: Sequence[Candidate]
) -> list[Candidate]:
    """Yield up to three untrained cells that its models predict to be the fastest in budget."""
    pair = PaperPair({candidate: m.speedup for candidate, m in measured.items()})
    accuracies, speeds = pair.accuracies(fitted, rest), pair.log_speedups(fitted, rest)
    floor = fitted[BASELINE].accuracy - table.budget - _TIE
    least = math.log(verified_best(fitted, table.budget))
    likely = [
        (-speed.mean, candidate)
        for candidate, accuracy, speed in zip(rest, accuracies, speeds, strict=True)
        if accuracy and speed and accuracy.mean >= floor and speed.mean > least
    ]
    return [candidate for _, candidate in sorted(likely)[:NUM_PREDICTED]]


def _botorch_order(table: Table, measured: Measured, seed: int) -> Iterator[Candidate]:
    rng = np.random.default_rng(seed)
    free = [c for c in table.space.candidates if c != BASELINE]
    known = {BASELINE: measured[BASELINE]}
    yield BASELINE
    while free:
        if len(table.space.candidates) - len(free) <= NUM_RANDOM:
            chosen = free[int(rng.integers(len(free)))]
        else:
            chosen = _botorch_choice(table, known, free)
        free.remove(chosen)
        if chosen in measured:
            known[chosen] = measured[chosen]
        yield chosen


def _botorch_choice(table: Table, known: Measured, free: Sequence[Candidate]) -> Candidate:
    import torch
    from botorch.acquisition.analytic import LogConstrainedExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms.outcome import Standardize
    from gpytorch.mlls import SumMarginalLogLikelihood

    baseline = known[BASELINE].accuracy
    places = torch.tensor([_place(table, c) for c in known], dtype=torch.float64)
    speeds = [[math.log(m.speedup)] for m in known.values()]
    losses = [[baseline - m.accuracy] for m in known.values()]
    model = ModelListGP(
        *(
            SingleTaskGP(
                places, torch.tensor(y, dtype=torch.float64), outcome_transform=Standardize(1)
            )
            for y in (speeds, losses)
        )
    )
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    gain = LogConstrainedExpectedImprovement(
        model,
        best_f=math.log(verified_best(known, table.budget)),
        objective_index=0,
        constraints={1: (None, table.budget)},
    )
    asked = torch.tensor([[_place(table, c)] for c in free], dtype=torch.float64)
    with torch.no_grad():
        return free[int(gain(asked).argmax())]


def _place(table: Table, candidate: Candidate) -> tuple[float, float]:
    """Yield the places of width and sparsity in their lists, from 0 to 1."""
    widths = sorted({c.num_instances for c in table.space.candidates})
    sparsities = sorted({c.sparsity for c in table.space.candidates})
    return (
        widths.index(candidate.num_instances) / max(len(widths) - 1, 1),
        sparsities.index(candidate.sparsity) / max(len(sparsities) - 1, 1),
    )
