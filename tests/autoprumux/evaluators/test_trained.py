"""The bridge to the trainers; the one test outside `tests/trainers` that needs torch."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from autoprumux import errors
from autoprumux.errors import EvaluationError, InputError, TrialError
from autoprumux.evaluators import trained
from autoprumux.evaluators.base import Clock, Remedy
from autoprumux.evaluators.timed import model_timer
from autoprumux.evaluators.trained import INPUT_CAUSES, TrainedEvaluator, map_error, to_measurement
from autoprumux.records import FAILURE_CAUSES, Candidate, EncoderShape
from trainers import errors as trainer_errors
from trainers.config import ThroughputConfig, TrainerConfig
from trainers.context import TrainingContext
from trainers.errors import LostProcessError, SparsityError, TrainerError, TrainingError
from trainers.measure.environment import describe_environment
from trainers.processes import ALONE
from trainers.results import (
    AccuracyResult,
    HistoryPoint,
    PhaseResult,
    StructureResult,
    ThroughputResult,
    TrainerResult,
)


def all_subclasses(kind):
    return {kind}.union(*(all_subclasses(sub) for sub in kind.__subclasses__()))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """What trains by mistake leaves nothing in the repository."""
    monkeypatch.chdir(tmp_path)


def own_errors():
    found = all_subclasses(TrainerError) - {TrainerError}
    return sorted(
        (k for k in found if k.__module__ == trainer_errors.__name__), key=lambda k: k.__name__
    )


def ignore(name, value, step):
    """Report to nobody."""


def phase(name, duration_s, *, is_cached):
    return PhaseResult(
        name=name,
        num_updates=10,
        duration_s=duration_s,
        memory_mib=100.0,
        is_cached=is_cached,
        history=(HistoryPoint(name="loss", value=0.5, step=10),),
    )


@pytest.fixture
def result():
    return TrainerResult(
        accuracy=AccuracyResult(
            accuracy=0.8,
            accuracy_std=0.01,
            num_examples=10,
            num_compositions=2,
            correctness=b"\xff\x00\xf0",
        ),
        throughput=ThroughputResult(
            throughput=200.0,
            throughput_q1=190.0,
            throughput_q3=210.0,
            baseline_throughput=100.0,
            speedup=2.0,
            speedup_q1=1.9,
            speedup_q3=2.1,
            num_repeats=20,
            batch_size=64,
            length=32,
            dtype="float32",
            device="cpu",
            num_threads=2,
            baseline_spread=0.04,
            is_clean=True,
        ),
        sparsity=0.601,
        structure=StructureResult(
            hidden_size=120,
            head_counts=(2, 0),
            feedforward_sizes=(64, 3),
            num_encoder_parameters=1000,
            num_parameters=5000,
        ),
        phases=(
            phase("finetune", 50.0, is_cached=True),
            phase("prune", 30.0, is_cached=False),
            phase("finetune_pruned", 12.0, is_cached=False),
        ),
        checkpoint="cache/finetune_pruned-n2-abc",
        environment={"device": "cpu"},
    )


@pytest.mark.parametrize("kind", own_errors())
def test_every_error_of_the_trainers_is_mapped(kind):
    error = map_error(kind("what went wrong"))

    assert str(error) == "what went wrong"
    if issubclass(kind, TrainingError):
        assert type(error) is TrialError
        assert error.cause == kind.cause
        assert kind is TrainingError or kind.cause in FAILURE_CAUSES
    elif kind is LostProcessError:  # ends the search, and is no failure of the trial
        assert type(error) is errors.LostProcessError
    else:
        assert type(error) is InputError
        assert error.cause == INPUT_CAUSES[kind]  # none is missed


def test_the_errors_of_the_trainers_are_found():
    assert len(own_errors()) == 11


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("raise `prune.num_updates`.", "raise `trainer.prune.num_updates`."),
        ("`finetune_pruned.num_updates` x", "`trainer.finetune_pruned.num_updates` x"),
        ("The file `data.tsv` is", "The file `data.tsv` is"),
        ("`prune` or `x.prune.y`", "`prune` or `x.prune.y`"),
    ],
)
def test_messages_name_options_as_study_files_do(message, expected):
    assert str(map_error(SparsityError(message))) == expected


def test_the_causes_of_failed_trials_differ():
    kinds = [kind for kind in own_errors() if issubclass(kind, TrainingError)]

    assert len({kind.cause for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("method", ["check", "evaluate", "cached_widths"])
@pytest.mark.parametrize("kind", own_errors())
def test_no_error_of_the_trainers_comes_through(monkeypatch, method, kind):
    def fail(*args, **options):
        raise kind("what went wrong")

    for name in ("check", "train_and_measure", "cached_widths"):
        monkeypatch.setattr(trained.pipeline.Trainer, name, fail)
    evaluator = TrainedEvaluator(TrainerConfig(), Path("cache"), seed=0)
    arguments = (Candidate(1, 0.0), 0, ignore) if method == "evaluate" else ()

    with pytest.raises(EvaluationError, match="what went wrong") as caught:
        getattr(evaluator, method)(*arguments)

    assert type(caught.value.__cause__) is kind


@pytest.mark.parametrize("kind", own_errors())
def test_no_error_of_an_export_comes_through(monkeypatch, kind):
    def fail(*args, **options):
        raise kind("what went wrong")

    monkeypatch.setattr("trainers.serving.export.export_model", fail)

    with pytest.raises(EvaluationError, match="what went wrong") as caught:
        trained.export_checkpoint(
            Path("a"),
            Path("b"),
            TrainerConfig(),
            fingerprint="",
            with_onnx=False,
            announce=print,
        )

    assert type(caught.value.__cause__) is kind


def test_other_errors_keep_their_class(monkeypatch):
    def fail(*args, **options):
        raise KeyError("a bug")

    monkeypatch.setattr(trained.pipeline.Trainer, "train_and_measure", fail)

    with pytest.raises(KeyError, match="a bug"):
        TrainedEvaluator(TrainerConfig(), Path("cache"), 0).evaluate(Candidate(1, 0.0), 0, ignore)


def test_a_candidate_is_trained_as_asked(monkeypatch, result):
    seen = {}

    def train(trainer, **options):
        seen.update(options, **vars(trainer))
        return result

    monkeypatch.setattr(trained.pipeline.Trainer, "train_and_measure", train)
    config = TrainerConfig(task="sst2")

    measurement = TrainedEvaluator(config, Path("cache"), seed=3).evaluate(
        Candidate(5, 0.6), 11, ignore
    )

    assert seen == {
        "config": config,
        "num_instances": 5,
        "sparsity": 0.6,
        "seed": 11,
        "shared_seed": 3,
        "cache_dir": Path("cache"),
        "report": ignore,
        "processes": ALONE,
    }
    assert measurement.seed == 11


def test_a_result_loses_nothing_on_the_way(result):
    measurement = to_measurement(result, seed=4, elapsed_s=60.0)

    values = asdict(measurement)
    assert values["throughput"] == asdict(result.throughput)
    assert values["structure"] == asdict(result.structure)
    assert values["phases"] == tuple(asdict(p) for p in result.phases)
    for name, value in asdict(result.accuracy).items():
        assert values[name] == value
    assert (measurement.sparsity, measurement.speedup) == (0.601, 2.0)
    assert measurement.checkpoint == result.checkpoint
    assert measurement.environment == {"device": "cpu"}


def test_the_setting_of_a_speed_is_known_before_any_training(result):
    config = TrainerConfig(
        device="cpu",
        throughput=ThroughputConfig(batch_size=2, length=8, num_warmup=1, num_repeats=3),
    )
    evaluator = TrainedEvaluator(config, Path("cache"), seed=0)
    whole = replace(config, throughput=replace(config.throughput, length=0))

    with model_timer(config) as timer:
        speed = timer.measure(EncoderShape(1, 128, (4,) * 4, (512,) * 4), "")
    environment = describe_environment(torch.device("cpu"))
    measured = to_measurement(replace(result, environment=environment), seed=0, elapsed_s=1.0)

    assert isinstance(evaluator, Clock)
    assert evaluator.timing() == replace(measured, throughput=speed).timing
    assert evaluator.timing().processor
    by_data = TrainedEvaluator(whole, Path("cache"), seed=0).timing()
    assert by_data.length == config.data.max_length


@pytest.mark.parametrize(("elapsed_s", "duration_s"), [(60.0, 60.0), (5.0, 42.0)])
def test_the_time_of_earlier_processes_counts_but_cached_phases_do_not(
    result, elapsed_s, duration_s
):
    assert to_measurement(result, seed=0, elapsed_s=elapsed_s).duration_s == duration_s


def test_the_fingerprint_is_computed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        trained.pipeline.Trainer,
        "check",
        lambda trainer, *asked: calls.append(asked) or "builtin:x",
    )
    evaluator = TrainedEvaluator(TrainerConfig(), Path("cache"), 0, [0, 0.6], [1, 2])

    assert [evaluator.data_fingerprint for _ in range(3)] == ["builtin:x"] * 3
    assert calls == [((0, 0.6), (1, 2))]


def test_cached_widths_are_those_of_the_study_s_seed(monkeypatch):
    def find(trainer):
        return frozenset({1, trainer.shared_seed})

    monkeypatch.setattr(trained.pipeline.Trainer, "cached_widths", find)

    assert TrainedEvaluator(TrainerConfig(), Path("cache"), seed=5).cached_widths() == {1, 5}


def test_remedy_changes_learning_rates_and_parts_and_loads_no_data_again(monkeypatch):
    context = TrainingContext(TrainerConfig(), 0, Path("cache"), None, None, None)
    monkeypatch.setattr(TrainingContext, "open", lambda *_, **__: context)
    evaluator = TrainedEvaluator(TrainerConfig(num_parts=2), Path("cache"), seed=0)

    other = evaluator.with_remedy(Remedy(text="both", num_parts=2, learning_rate_share=0.5))

    dense = Candidate(1, 0.0)
    before, trainer = evaluator.trainer.config, other.trainer_of(dense)
    after = trainer.config
    assert (before.num_parts, after.num_parts) == (2, 4)
    assert after.finetune.learning_rate == before.finetune.learning_rate / 2
    assert after.prune.learning_rate == before.prune.learning_rate / 2
    assert replace(after.finetune, learning_rate=before.finetune.learning_rate) == before.finetune
    assert trainer.context.config == after
    assert trainer.context.splits is context.splits
    assert evaluator.trainer_of(dense) is evaluator.trainer


def test_hyperparameters_replace_the_recipes_and_a_remedy_halves_what_they_make_of_it(
    monkeypatch,
):
    context = TrainingContext(TrainerConfig(), 0, Path("cache"), None, None, None)
    monkeypatch.setattr(TrainingContext, "open", lambda *_, **__: context)
    evaluator = TrainedEvaluator(TrainerConfig(), Path("cache"), seed=0)
    values = (("trainer.finetune.learning_rate", 1e-3), ("trainer.prune.temperature", 3.0))
    candidate = Candidate(2, 0.6, values)
    halved = evaluator.with_remedy(Remedy(text="half", learning_rate_share=0.5))

    plain, remedied = (e.trainer_of(candidate).config for e in (evaluator, halved))

    assert (plain.finetune.learning_rate, plain.prune.temperature) == (1e-3, 3.0)
    assert plain.prune.learning_rate == TrainerConfig().prune.learning_rate
    assert (remedied.finetune.learning_rate, remedied.prune.temperature) == (5e-4, 3.0)
    assert remedied.prune.learning_rate == TrainerConfig().prune.learning_rate / 2


def test_what_is_encoded_once_serves_all_hyperparameters(monkeypatch):
    context = TrainingContext(TrainerConfig(), 0, Path("cache"), None, None, None)
    vars(context)["train"] = object()
    monkeypatch.setattr(TrainingContext, "open", lambda *_, **__: context)
    evaluator = TrainedEvaluator(TrainerConfig(), Path("cache"), seed=0)

    other = evaluator.trainer_of(Candidate(1, 0.6, (("trainer.prune.temperature", 3.0),)))

    assert other.context is not context
    assert other.context.train is context.train
