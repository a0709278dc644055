"""Demo records that several parts test against: plausible, deterministic, no training."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa
from postgresql_server import NoServerError, new_database, running_server

from autoprumux.records import (
    Candidate,
    Choice,
    Failure,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    Structure,
    StudyRecord,
    Throughput,
    TrialRecord,
)

NUM_LAYERS = 4
HIDDEN_SIZE = 128
DENSE_PARAMETERS = NUM_LAYERS * 12 * HIDDEN_SIZE**2


def make_measurement(
    candidate: Candidate, *, seed: int = 0, num_examples: int = 1000
) -> Measurement:
    """Yield a plausible measurement: accuracy falls and speed-up rises with N and s."""
    num_compositions = 1 if candidate.num_instances == 1 else 3
    correctness = _correctness(candidate, seed, num_compositions, num_examples)
    per_composition = correctness.mean(axis=1)
    return Measurement(
        accuracy=float(per_composition.mean()),
        accuracy_std=float(per_composition.std()),
        num_examples=num_examples,
        num_compositions=num_compositions,
        correctness=np.packbits(correctness).tobytes(),
        throughput=_throughput(candidate),
        sparsity=candidate.sparsity,
        structure=_structure(candidate.sparsity),
        phases=_phases(candidate),
        duration_s=40.0 + 10.0 * candidate.num_instances,
        checkpoint=f"checkpoints/n{candidate.num_instances}-s{candidate.sparsity:.4f}-{seed}",
        seed=seed,
        environment={"python": "3.11.9", "torch": "2.13.0", "device": "cpu", "num_threads": "2"},
    )


def make_study() -> StudyRecord:
    """Yield a study of ten trials: the baseline, eight more measured ones and one failure."""
    measured = [
        Candidate(1, 0.0),
        Candidate(2, 0.0),
        Candidate(1, 0.6),
        Candidate(1, 0.95),
        Candidate(2, 0.6),
        Candidate(5, 0.0),
        Candidate(10, 0.0),
        Candidate(2, 0.8),
        Candidate(5, 0.6),
    ]
    trials = tuple(_complete_trial(number, c) for number, c in enumerate(measured))
    failed = TrialRecord(
        number=len(trials),
        candidate=Candidate(10, 0.95),
        state="failed",
        choice=Choice(reason="chance 0.21 to meet 10.0 points", chance=0.21, score=0.1),
        failure=Failure(
            cause="sparsity_not_reached",
            message="Pruning reached 0.91 of the requested 0.95.",
            last_accuracy=0.61,
        ),
    )
    return StudyRecord(
        name="qnli-embedded",
        task="qnli",
        config={
            "search": {
                "widths": [1, 2, 5, 10],
                "sparsities": [0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
            },
            "trainer": {"task": "qnli", "finetune": {"num_updates": 400}},
            "seed": 0,
        },
        config_hash=hashlib.sha256(b"demo").hexdigest(),
        data_fingerprint="builtin:qnli:0123abcd",
        seed=0,
        budgets=(0.01, 0.02, 0.1),
        trials=(*trials, failed),
    )


@pytest.fixture
def demo_measurement() -> Callable[..., Measurement]:
    """Factory: `demo_measurement(candidate, seed=0, num_examples=1000)`."""
    return make_measurement


@pytest.fixture
def demo_study() -> StudyRecord:
    """Study of ten trials, see `make_study`."""
    return make_study()


@pytest.fixture
def demo_study_record() -> Callable[..., StudyRecord]:
    """Factory: `demo_study_record(name="other", budgets=(0.05,))`, the demo study changed."""
    return lambda **changes: replace(make_study(), **changes)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[sa.URL]:
    """A real PostgreSQL server, started for the tests; `AUTOPRUMUX_TEST_POSTGRESQL=required`
    makes it a mistake that there is none.
    """
    try:
        with running_server() as url:
            yield url
    except NoServerError as error:
        if os.environ.get("AUTOPRUMUX_TEST_POSTGRESQL") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def postgresql_url(postgresql_server: sa.URL) -> Iterator[str]:
    """URL, password included, of an empty database on a real PostgreSQL server."""
    with new_database(postgresql_server, f"study{next(_NUMBERS)}") as url:
        yield url


_NUMBERS = itertools.count()


def _complete_trial(number: int, candidate: Candidate) -> TrialRecord:
    choice = Choice(
        reason="the dense baseline is always first"
        if number == 0
        else "chance 0.82 to meet 2.0 points",
        chance=None if number == 0 else 0.82,
        expected_speedup=_throughput(candidate).speedup,
        expected_gain=None if number == 0 else 0.4,
        predicted_minutes=1.1,
        score=None if number == 0 else 0.36,
    )
    return TrialRecord(
        number=number,
        candidate=candidate,
        state="complete",
        choice=choice,
        measurement=make_measurement(candidate),
    )


def _correctness(
    candidate: Candidate, seed: int, num_compositions: int, num_examples: int
) -> np.ndarray:
    loss = 0.013 * (candidate.num_instances - 1) + 0.06 * candidate.sparsity**4
    shape = (num_compositions, num_examples)
    generator = np.random.default_rng(
        [seed, candidate.num_instances, round(candidate.sparsity * 1e4)]
    )
    correct = np.zeros(shape, dtype=bool)
    for row in correct:
        num_correct = round((0.91 - loss) * num_examples) + int(generator.integers(-2, 3))
        row[generator.permutation(num_examples)[:num_correct]] = True
    return correct


def _throughput(candidate: Candidate) -> Throughput:
    baseline = 1200.0
    is_baseline = candidate.is_baseline
    speedup = candidate.num_instances**0.85 / (1.0 - 0.75 * candidate.sparsity)
    spread = 0.0 if is_baseline else 0.02 * speedup
    return Throughput(
        throughput=baseline * speedup,
        throughput_q1=baseline * (speedup - spread),
        throughput_q3=baseline * (speedup + spread),
        baseline_throughput=baseline,
        speedup=speedup,
        speedup_q1=speedup - spread,
        speedup_q3=speedup + spread,
        num_repeats=20,
        batch_size=64,
        length=32,
        dtype="float32",
        device="cpu",
        num_threads=2,
    )


def _structure(sparsity: float) -> Structure:
    num_encoder_parameters = round(DENSE_PARAMETERS * (1.0 - sparsity))
    return Structure(
        hidden_size=HIDDEN_SIZE,
        head_counts=(max(1, round(4 * (1.0 - sparsity))),) * NUM_LAYERS,
        feedforward_sizes=(round(4 * HIDDEN_SIZE * (1.0 - sparsity)),) * NUM_LAYERS,
        num_encoder_parameters=num_encoder_parameters,
        num_parameters=num_encoder_parameters + 260_000,
    )


def _phases(candidate: Candidate) -> tuple[PhaseRecord, ...]:
    names = ["finetune"] if candidate.sparsity == 0 else ["finetune", "prune", "finetune_pruned"]
    if candidate.num_instances > 1:
        names.insert(0, "prime")
    return tuple(
        PhaseRecord(
            name=name,
            num_updates=400,
            duration_s=12.5,
            memory_mib=812.0,
            is_cached=name == "prime",
            history=(
                HistoryPoint(name="loss", value=0.69, step=100),
                HistoryPoint(name="held_out_accuracy", value=0.84, step=100),
                HistoryPoint(name="loss", value=0.31, step=400),
            ),
        )
        for name in names
    )
