"""Two processes of one launch train a trial: the losses of one, and nobody left waiting."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import process_scenarios
import pytest
import torch
from process_scenarios import Scenarios, history

from trainers.errors import DataError, LostProcessError, OutOfMemoryError
from trainers.models.checkpoints import save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape
from trainers.phases import loop
from trainers.processes import ALONE, Failure, OtherProcessError, Processes, _buckets
from trainers.processes import _uninterrupted as uninterrupted

TIMEOUT_S = 300


@pytest.fixture(scope="module")
def dry_source(tokenizer, tmp_path_factory) -> Path:
    """A tiny plain model without dropout, which no two processes draw alike."""
    shape = MuxedBertShape(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        dense_hidden_size=32,
        head_size=8,
        head_counts=(4, 4),
        feedforward_sizes=(64, 64),
        dense_num_heads=4,
        dense_feedforward_size=64,
        max_positions=32,
        embed_mode="single_pass",
        dropout=0.0,
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("dry")
    save_model(MuxedBert(shape), directory, tokenizer)
    return directory


@pytest.fixture(scope="module")
def alone(dry_source, tmp_path_factory) -> dict[str, list[float]]:
    """Curves of one process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "REPORT_EVERY", 1)  # all losses are compared
        return history(Scenarios(str(dry_source), folder, ALONE).trainer("alone"))


@pytest.fixture(scope="module")
def together(dry_source, tmp_path_factory) -> dict[str, object]:
    """What the first of two processes saw in each scenario."""
    folder = tmp_path_factory.mktemp("together")
    result = folder / "result.json"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(process_scenarios.__file__, str(dry_source), str(folder / "cache"), str(result)),
    ]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(result.read_text(encoding="utf-8"))


def require_same(curves, expected, *, but=()):
    curves = {name: values for name, values in curves.items() if name not in but}
    assert curves.keys() == expected.keys()
    for name, values in expected.items():
        assert curves[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name


def test_the_losses_of_all_phases_are_those_of_one_process(together, alone):
    phases = {name.split("/")[0] for name in alone}
    assert phases == {"prime", "pretrain", "finetune", "prune", "finetune_pruned"}
    assert len(alone["prune/loss"]) == 12

    require_same(together["same"], alone)


def test_what_one_process_has_no_memory_for_all_take_in_smaller_parts(together, alone):
    added = {"finetune/num_parts", "finetune_pruned/num_parts"}

    require_same(together["short_of_memory"], alone, but=added)

    for name in added:
        assert set(together["short_of_memory"][name]) == {2.0}


def test_an_error_of_one_process_is_raised_in_the_first(together):
    assert together["broken"] == "RuntimeError: process 1 failed with KeyError: 'a bug'"


def test_a_loss_that_is_no_number_ends_the_training_of_all(together):
    assert together["diverged"] == "DivergedError"


def test_an_interrupted_training_is_taken_up_with_the_same_losses(together):
    """The same two processes add in the same order, so that these are the same bits."""
    assert together["interrupted"] == together["same"]


def test_fewer_groups_than_processes_are_refused(together):
    assert together["too_many"] == (
        "A batch has 1 groups, which 2 processes cannot share; raise `batch_size` or "
        "`max_sequences`, or start fewer processes."
    )


def test_processes_with_other_examples_are_refused(together):
    assert together["other_data"].startswith("DataError: Process 1 reads other examples (builtin:")


def test_one_process_hears_itself_and_changes_nothing():
    tensor = torch.ones(3)
    ALONE.add_up([tensor])

    assert ALONE.exchange("word") == ["word"]
    assert ALONE.tell("word") == "word"
    assert ALONE.place(torch.device("cpu")) == torch.device("cpu")
    assert torch.equal(tensor, torch.ones(3))
    with pytest.raises(DataError, match=r"^here$"), ALONE.task():
        raise DataError("here")


@pytest.mark.parametrize(
    ("errors", "expected", "text"),
    [
        ([DataError("no file")], DataError, r"^no file \(process 1\)$"),
        ([torch.OutOfMemoryError("full")], OutOfMemoryError, r"^full \(process 1\)$"),
        ([KeyError("x")], RuntimeError, r"^process 1 failed with KeyError: 'x'$"),
        ([MemoryError("full"), KeyError("x")], RuntimeError, "process 2 failed with KeyError"),
    ],
)
def test_errors_of_others_keep_their_kind(errors, expected, text):
    failures = [Failure.of(error, rank) for rank, error in enumerate(errors, start=1)]

    with pytest.raises(expected, match=text):
        raise OtherProcessError(failures).as_own()


def test_an_error_that_all_know_is_not_told_again():
    class Counting(Processes):
        num_meetings = 0

        def _meet(self, value):
            self.num_meetings += 1
            return [value], [value]

    processes, error = Counting(1, 2), DataError("once")

    for _ in range(2):
        assert processes.agree(error) == (Failure.of(error, 1),)
    with pytest.raises(RuntimeError), processes.task():
        raise RuntimeError("wrapped") from error
    with pytest.raises(LostProcessError), processes.task():
        raise LostProcessError("gone")

    assert processes.num_meetings == 1


def test_sums_are_made_in_buckets_that_hold_every_tensor_once(monkeypatch):
    monkeypatch.setattr("trainers.processes.BUCKET_SIZE", 10)
    tensors = [torch.zeros(size) for size in (4, 5, 3, 25, 1)]

    buckets = list(_buckets(tensors))

    assert [[len(tensor) for tensor in bucket] for bucket in buckets] == [[4, 5], [3], [25], [1]]


def test_an_interrupt_waits_for_the_end_of_a_meeting():
    seen = []

    def meet_twice():
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                seen.append("inner")
            seen.append("outer")

    with pytest.raises(KeyboardInterrupt):
        meet_twice()

    assert seen == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
