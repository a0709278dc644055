import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainers.errors import CheckpointError, DivergedError, OutOfMemoryError
from trainers.models.checkpoints import read_tensors
from trainers.models.heads import TokenHead
from trainers.models.masks import Gates
from trainers.phase_config import FinetuneConfig, PretrainConfig, PrimeConfig, PruneConfig
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.loop import (
    LoopOptions,
    clip_and_step,
    has_converged,
    learning_rate,
    make_optimizer,
    run_phase,
)
from trainers.phases.precision import Precision
from trainers.phases.pretrain import PretrainProgram
from trainers.phases.prime import PrimeProgram
from trainers.phases.prune import PruneProgram
from trainers.phases.teachers import TeacherModels

NUM_UPDATES = 6


class KilledError(Exception):
    """Stands for a killed process."""


class ScriptedProgram:
    """Adds one to a weight at every update; losses and scores come from lists."""

    def __init__(self, losses=None, scores=None):
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.modules, self.optimizers = {"model": self.model}, {}
        self.losses, self.scores, self.seen_random = losses, iter(scores or ()), []

    def update(self, step):
        self.seen_random.append(float(torch.rand(())))
        with torch.no_grad():
            self.model.weight.add_(1.0)
        return {"loss": torch.tensor(self.losses[step] if self.losses else 1.0)}

    def evaluate(self):
        return next(self.scores, None)


def ignore(name, value, step):
    """Report to nobody."""


@pytest.fixture
def make_options(tmp_path):
    def build(num_updates=NUM_UPDATES, num_evaluations=3, interval_s=1e-9, seed=5, **scoring):
        return LoopOptions(
            **scoring,
            num_updates=num_updates,
            num_evaluations=num_evaluations,
            seed=seed,
            progress_path=tmp_path / "progress.safetensors",
            checkpoint_interval_s=interval_s,
        )

    return build


@pytest.fixture
def make_program(make_model, make_encoded):
    """Build one of the four phases' programs afresh, always from the same seed."""

    def build(kind, num_instances=2, dtype=torch.float32):
        changes = {"dropout": 0.1, "dtype": torch.float32, "embed_mode": "single_pass"}
        model = make_model(num_instances, **changes)
        shared = {"seed": 3, "precision": Precision(torch.device("cpu"), dtype)}
        size = {"num_updates": NUM_UPDATES, "batch_size": 4, "learning_rate": 1e-2}
        train, held_out = make_encoded(40), make_encoded(30, seed=1)
        torch.manual_seed(0)
        head = TokenHead(32, 100, 1e-12)
        if kind == "prime":
            return PrimeProgram(model, head, train, PrimeConfig(**size), **shared)
        if kind == "pretrain":
            teacher = make_model(1, **changes)
            config = PretrainConfig(**size, detect_weight=1.0)
            return PretrainProgram(model, head, teacher, train, (0, 1, 2, 3, 4), config, **shared)
        teacher = make_model(num_instances, seed=9, **changes)
        if kind == "finetune":
            config = FinetuneConfig(**size, distill_weight=0.5)
            return FinetuneProgram(model, teacher, train, held_out, config, **shared)
        gates = Gates(model.shape)
        return PruneProgram(
            model, TeacherModels(teacher), gates, train, 0.5, PruneConfig(**size), **shared
        )

    return build


def everything(program):
    """Yield all weights and optimiser states of a program, by name."""
    tensors = {}
    for name, module in program.modules.items():
        tensors |= {f"{name}.{key}": t for key, t in module.state_dict().items()}
    for name, optimizer in program.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": t for key, t in state.items()}
    return tensors


@pytest.mark.parametrize("kind", ["prime", "pretrain", "finetune", "prune"])
@pytest.mark.parametrize("kill_at", [2, 5])
def test_a_killed_phase_ends_with_the_bits_of_an_undisturbed_one(
    make_program, make_options, tmp_path, kind, kill_at
):
    def kill(name, value, step):
        if name == f"{kind}/step" and step == kill_at:
            raise KilledError

    undisturbed = make_program(kind)
    expected = run_phase(kind, undisturbed, make_options(interval_s=1e9), ignore)
    assert not (tmp_path / "progress.safetensors").exists()
    with pytest.raises(KilledError):
        run_phase(kind, make_program(kind), make_options(), kill)
    assert (tmp_path / "progress.safetensors").exists()

    taken_up = make_program(kind)
    result = run_phase(kind, taken_up, make_options(), ignore)

    assert result.history == expected.history
    before, after = everything(undisturbed), everything(taken_up)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["prime", "pretrain", "finetune", "prune"])
def test_bfloat16_trains_weights_that_stay_single_precision(make_program, make_options, kind):
    plain, fast = make_program(kind), make_program(kind, dtype=torch.bfloat16)

    losses = [
        [p.value for p in run_phase(kind, program, options, ignore).history if p.name == "loss"]
        for program, options in ((plain, make_options(interval_s=1e9)), (fast, make_options()))
    ]

    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    assert {tensor.dtype for tensor in everything(fast).values()} == {torch.float32}


def test_a_taken_up_phase_repeats_no_update_and_says_where_it_starts(make_options):
    def kill(name, value, step):
        if name == "phase/step" and step == 4:
            raise KilledError

    with pytest.raises(KilledError):
        run_phase("phase", ScriptedProgram(), make_options(), kill)
    seen = []

    run_phase("phase", ScriptedProgram(), make_options(), lambda *event: seen.append(event))

    assert seen[0] == ("phase/total", NUM_UPDATES, 3)
    assert [step for name, _, step in seen if name == "phase/step"] == [4, 5, 6]


def test_a_taken_up_phase_reports_again_what_it_had_reported(make_options):
    def kill(name, value, step):
        if name == "phase/step" and step == 4:
            raise KilledError

    scores = [0.5, 0.7, 0.6]
    scored = ScriptedProgram(scores=scores)
    undisturbed = []
    options = make_options(interval_s=1e9)
    run_phase("phase", scored, options, lambda *event: undisturbed.append(event))
    with pytest.raises(KilledError):
        run_phase("phase", ScriptedProgram(scores=scores), make_options(), kill)
    seen = []

    later = ScriptedProgram(scores=scores[1:])
    run_phase("phase", later, make_options(), lambda *event: seen.append(event))

    assert scores_in(seen) == scores_in(undisturbed)
    assert [value for _, value, _ in scores_in(seen)] == scores


def scores_in(events):
    return [event for event in events if event[0] == "phase/held_out_accuracy"]


def test_a_phase_that_is_asked_to_stop_loses_no_update(make_options):
    def stop(name, value, step):
        if name == "phase/step" and step == 4:
            raise KeyboardInterrupt

    stopped, undisturbed, resumed = ScriptedProgram(), ScriptedProgram(), ScriptedProgram()
    run_phase("phase", undisturbed, make_options(num_updates=6), ignore)
    make_options(num_updates=6).progress_path.unlink(missing_ok=True)
    seen = []

    with pytest.raises(KeyboardInterrupt):
        run_phase("phase", stopped, make_options(num_updates=6, interval_s=1e9), stop)
    run_phase("phase", resumed, make_options(num_updates=6), lambda *event: seen.append(event))

    assert seen[0] == ("phase/total", 6, 4)
    assert [step for name, _, step in seen if name == "phase/step"] == [5, 6]
    for name, tensor in everything(undisturbed).items():
        assert torch.equal(everything(resumed)[name], tensor)


def test_the_time_of_earlier_processes_is_counted(make_options):
    def kill(name, value, step):
        if name == "phase/step" and step == 4:
            raise KilledError

    class SlowProgram(ScriptedProgram):
        def update(self, step):
            torch.zeros(1)
            end = torch.rand(300, 300)
            for _ in range(20):
                end = end @ end.softmax(0)
            return super().update(step)

    undisturbed = run_phase("phase", SlowProgram(), make_options(interval_s=1e9), ignore)
    with pytest.raises(KilledError):
        run_phase("phase", SlowProgram(), make_options(), kill)
    first = run_phase("phase", SlowProgram(), make_options(), ignore)

    assert first.duration_s > 0.6 * undisturbed.duration_s
    assert first.num_updates == NUM_UPDATES


def test_a_finished_phase_that_is_run_again_does_nothing(make_options):
    first, again = ScriptedProgram(), ScriptedProgram()
    run_phase("phase", first, make_options(num_updates=3), ignore)

    run_phase("phase", again, make_options(num_updates=3), ignore)

    assert again.seen_random == []
    assert torch.equal(again.model.weight, first.model.weight)


def test_random_numbers_follow_from_seed_and_step(make_options, tmp_path):
    draws = {}
    for seed in (5, 5, 6):
        program = ScriptedProgram()
        run_phase("phase", program, make_options(seed=seed, interval_s=1e9), ignore)
        draws.setdefault(seed, []).append(program.seen_random)

    assert draws[5][0] == draws[5][1] != draws[6][0]
    assert len(set(draws[5][0])) == NUM_UPDATES


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_phase(make_options, value):
    program = ScriptedProgram(losses=[1.0, 1.0, value])

    with pytest.raises(DivergedError, match=f"loss of phase `phase` became {value} at update 2"):
        run_phase("phase", program, make_options(), ignore)


def test_a_diverged_step_is_never_checkpointed(make_options):
    with pytest.raises(DivergedError):
        run_phase("phase", ScriptedProgram(losses=[1.0, math.nan]), make_options(), ignore)
    seen = []

    run_phase("phase", ScriptedProgram(), make_options(), lambda *event: seen.append(event))

    assert seen[0] == ("phase/total", NUM_UPDATES, 1)


@pytest.mark.parametrize(
    ("scores", "best_step"),
    [((0.1, 0.9, 0.5), 4), ((0.9, 0.1, 0.5), 2), ((0.5, 0.7, 0.7), 6), ((0.5, 0.5, 0.2), 4)],
)
def test_the_best_held_out_weights_are_kept_and_later_ones_win_ties(
    make_options, scores, best_step
):
    program = ScriptedProgram(scores=scores)

    result = run_phase("phase", program, make_options(), ignore)

    assert float(program.model.weight.detach()) == best_step
    points = [p for p in result.history if p.name == "held_out_accuracy"]
    assert [(p.step, p.value) for p in points] == list(zip((2, 4, 6), scores, strict=True))


def test_the_best_weights_survive_a_kill(make_options):
    def kill(name, value, step):
        if name == "phase/step" and step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        run_phase("phase", ScriptedProgram(scores=(0.9, 0.5)), make_options(), kill)
    program = ScriptedProgram(scores=(0.6,))

    run_phase("phase", program, make_options(), ignore)

    assert float(program.model.weight.detach()) == 2


def test_a_score_that_is_good_enough_ends_the_phase(make_options):
    program = ScriptedProgram(scores=[0.5, 0.9, 1.0])
    options = make_options(score_name="held_out_retrieval", stop_score=0.9)

    result = run_phase("prime", program, options, ignore)

    assert result.num_updates == 4  # the second of three evaluations in six updates
    assert program.model.weight.item() == 4
    scores = [point for point in result.history if point.name == "held_out_retrieval"]
    assert [(point.step, point.value) for point in scores] == [(2, 0.5), (4, 0.9)]


@pytest.mark.parametrize(
    ("scores", "patience", "is_over"),
    [
        ([0.6, 0.7, 0.7], 1, True),
        ([0.6, 0.7, 0.7], 2, False),
        ([0.7, 0.6, 0.7], 2, True),
        ([0.7, 0.7005, 0.7009], 2, True),  # less than a thousandth
        ([0.7, 0.7005, 0.7011], 2, False),
        ([0.0, 0.0, 0.0, 0.0], 1, False),  # has not begun to rise
        ([0.5, 0.5], 1, True),
        ([0.9], 1, False),
        ([0.9, 0.1, 0.1], 0, False),
    ],
)
def test_a_phase_has_converged_once_its_last_scores_are_no_gain(scores, patience, is_over):
    assert has_converged(scores, patience) == is_over


def test_scores_without_a_gain_end_the_phase_with_the_best_weights(make_options):
    program = ScriptedProgram(scores=[0.2, 0.2, 0.6, 0.8, 0.7, 0.79, 1.0])
    options = make_options(num_updates=7, num_evaluations=7, patience=2)

    result = run_phase("prime", program, options, ignore)

    assert result.num_updates == 6
    assert program.model.weight.item() == 4


@pytest.mark.parametrize(
    ("scores", "rule"),
    [
        ([0.5, 0.9, 1.0], {"stop_score": 0.9}),
        ([0.9, 0.7, 1.0], {"patience": 1}),
    ],
    ids=["good enough", "converged"],
)
def test_a_killed_phase_that_ended_early_ends_at_the_same_update(make_options, scores, rule):
    def kill(name, value, step):
        if name == "prime/held_out_retrieval" and step == 4:
            raise KilledError

    options = make_options(score_name="held_out_retrieval", **rule)
    with pytest.raises(KilledError):
        run_phase("prime", ScriptedProgram(scores=scores), options, kill)

    program = ScriptedProgram(scores=scores[1:])  # the first evaluation is in the checkpoint
    result = run_phase("prime", program, options, ignore)

    assert result.num_updates == 4  # the second of three evaluations in six updates
    assert program.model.weight.item() == (4 if "stop_score" in rule else 2)


def test_without_a_score_the_last_weights_are_kept(make_options):
    program = ScriptedProgram()

    run_phase("phase", program, make_options(), ignore)

    assert float(program.model.weight.detach()) == NUM_UPDATES


def test_every_update_ticks_and_losses_are_reported_from_time_to_time(make_options):
    seen = []

    result = run_phase(
        "phase",
        ScriptedProgram(),
        make_options(num_updates=45),
        lambda *event: seen.append(event),
    )

    assert [e[2] for e in seen if e[0] == "phase/step"] == list(range(1, 46))
    assert [e[2] for e in seen if e[0] == "phase/loss"] == [20, 40, 45]
    assert [(p.name, p.step) for p in result.history] == [
        ("loss", 20),
        ("loss", 40),
        ("loss", 45),
    ]
    assert result.num_updates == 45
    assert result.memory_mib > 1
    assert not result.is_cached


@pytest.fixture
def taken(monkeypatch):
    """Stands for the memory of the process: what the programs of a test took, newest last."""
    taken = [7.0]
    monkeypatch.setattr("trainers.phases.loop.reset_peak_memory", taken.clear)
    monkeypatch.setattr("trainers.phases.loop.peak_memory_mib", lambda: max(taken, default=1.0))
    return taken


class TakingProgram(ScriptedProgram):
    """Takes so many MiB at each update."""

    def __init__(self, taken, sizes):
        super().__init__()
        self._taken, self._sizes = taken, iter(sizes)

    def update(self, step):
        self._taken.append(next(self._sizes))
        return super().update(step)


def test_the_peak_of_memory_is_that_of_the_phase(make_options, tmp_path, taken):
    def peak(name, sizes):
        options = replace(
            make_options(num_updates=len(sizes)), progress_path=tmp_path / f"{name}.st"
        )
        return run_phase(name, TakingProgram(taken, sizes), options, ignore).memory_mib

    assert peak("small", [2.0, 3.0]) == 3.0
    assert peak("large", [2.0, 9.0, 4.0]) == 9.0
    assert peak("later", [5.0]) == 5.0


def test_a_batch_that_does_not_fit_is_tried_again_in_parts_and_says_so(make_program, make_options):
    def scarce(most, kind):
        program = make_program(kind)
        draw = program._draw

        def draw_scarce(*asked):
            losses = draw(*asked)

            def limited(rows):
                if rows.stop - rows.start > most:
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
                return losses(rows)

            return limited

        program._draw = draw_scarce
        return program

    program = scarce(1, "finetune")
    result = run_phase("finetune", program, make_options(), ignore)

    assert [p.value for p in result.history if p.name == "num_parts"] == [4.0]
    assert program.micro_batches.num_halvings == 2  # not anew at every update
    with pytest.raises(OutOfMemoryError, match="one group of a batch at a time"):
        scarce(0, "prime").update(0)


def test_other_errors_of_an_update_are_not_taken_for_memory(make_program, monkeypatch):
    program = make_program("finetune")
    monkeypatch.setattr(program, "_draw", lambda *asked: {}["missing"])

    with pytest.raises(KeyError, match="missing"):
        program.update(0)


@pytest.mark.parametrize("kind", ["prime", "pretrain", "finetune", "prune"])
def test_a_batch_in_parts_has_the_losses_of_the_whole(make_program, kind):
    """Texts differ in length, so the parts do not weigh alike."""
    values = []
    for num_parts in (1, 3):
        program = make_program(kind)
        program.precision = replace(program.precision, num_parts=num_parts)
        if kind == "prune":  # each part would choose its own layers
            program.layers.config = replace(program.config, layer_alignment="fixed")
        for module in (m for root in program.modules.values() for m in root.modules()):
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        torch.manual_seed(1)
        values.append({name: float(v) for name, v in program.update(0).items()})

    assert values[1] == pytest.approx(values[0], rel=1e-5)


def flip_a_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])  # in a weight, so that it is still readable


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"junk", lambda whole: whole[: len(whole) // 2], flip_a_bit],
    ids=["empty", "junk", "half", "a bit"],
)
def test_damaged_progress_begins_the_phase_anew(make_options, tmp_path, caplog, damage):
    expected = run_phase("phase", ScriptedProgram(), make_options(), ignore)
    path = tmp_path / "progress.safetensors"
    path.write_bytes(damage(path.read_bytes()))

    result = run_phase("phase", ScriptedProgram(), make_options(), ignore)

    assert result.num_updates == expected.num_updates
    assert result.history == expected.history
    assert "is damaged and begins anew" in caplog.text


def test_progress_of_another_model_is_refused(make_options, make_program):
    run_phase("phase", ScriptedProgram(), make_options(num_updates=1), ignore)

    with pytest.raises(CheckpointError, match=r"does not fit \(.*\); delete that file"):
        run_phase("prime", make_program("prime"), make_options(), ignore)


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_zero():
    config = FinetuneConfig(num_updates=10, warmup=0.4, learning_rate=1.0)

    rates = [learning_rate(config, step) for step in range(10)]

    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize(("warmup", "expected"), [(0.0, [1.0, 0.75]), (0.1, [1.0, 1.0])])
def test_a_warm_up_is_at_least_one_update(warmup, expected):
    config = FinetuneConfig(num_updates=4, warmup=warmup, learning_rate=1.0)

    assert [learning_rate(config, step) for step in range(2)] == pytest.approx(expected)


def test_the_learning_rate_stays_at_its_peak_without_a_decay():
    config = FinetuneConfig(num_updates=6, warmup=0.5, learning_rate=0.3, decay="none")

    rates = [learning_rate(config, step) for step in range(6)]

    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3, 0.3])


@settings(max_examples=50, deadline=None)
@given(num_updates=st.integers(1, 200), warmup=st.floats(0, 0.99))
def test_the_learning_rate_is_positive_and_never_above_the_peak(num_updates, warmup):
    config = FinetuneConfig(num_updates=num_updates, warmup=warmup, learning_rate=0.01)

    rates = [learning_rate(config, step) for step in range(num_updates)]

    assert all(0 < rate <= 0.01 + 1e-12 for rate in rates)
    assert max(rates) == pytest.approx(0.01)


@pytest.mark.parametrize("kind", ["prime", "pretrain"])
def test_the_head_that_names_tokens_stays_tied_to_the_token_table(
    make_program, make_options, kind
):
    """One table serves both, before, after and in what is stored in between."""

    def tables(tensors):
        return [name for name, tensor in tensors.items() if tensor.shape == (100, 32)]

    def kill(name, value, step):
        if name == f"{kind}/step" and step == 4:
            raise KilledError

    table = "model.embeddings.tokens.weight"
    before = everything(make_program(kind))
    with pytest.raises(KilledError):
        run_phase(kind, make_program(kind), make_options(), kill)
    stored = read_tensors(make_options().progress_path)
    program = make_program(kind)
    run_phase(kind, program, make_options(), ignore)

    after = everything(program)
    assert tables(before) == [table]
    assert [name for name in tables(stored) if name.startswith("module.")] == [f"module.{table}"]
    assert [name for name in tables(after) if not name.endswith(("exp_avg", "exp_avg_sq"))] == [
        table
    ]
    assert not torch.equal(after[table], before[table])
    head, states = program.modules["token_head"], torch.randn(3, 32)
    with torch.no_grad():
        named = head(states, program.model.embeddings.tokens.weight)
        inner = head.norm(nn.functional.gelu(head.transform(states)))
        torch.testing.assert_close(named - head.bias, inner @ after[table].T)


def test_matrices_decay_and_vectors_do_not(make_model):
    optimizer = make_optimizer([make_model(2)], FinetuneConfig(weight_decay=0.3))

    decays = {
        p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }

    assert decays == {1: 0.0, 2: 0.3}


def test_gradients_are_clipped_to_length_one():
    weight = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.full((4,), 100.0)

    clip_and_step(optimizer)

    assert float(weight.detach().norm()) == pytest.approx(1.0, rel=1e-4)
    assert weight.grad is None
