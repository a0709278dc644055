"""What each of several processes of a launch does in `tests/trainers/test_processes.py`.

    torchrun --standalone --nproc-per-node 2 tests/process_scenarios.py MODEL CACHE RESULT

All processes run the same scenarios; the first writes what it saw to the file RESULT.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from trainers import stages
from trainers.config import (
    AccuracyConfig,
    DataConfig,
    ModelConfig,
    ThroughputConfig,
    TrainerConfig,
)
from trainers.errors import ConfigError
from trainers.phase_config import (
    FinetuneConfig,
    FinetunePrunedConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
)
from trainers.phases import loop
from trainers.phases.finetune import FinetuneProgram
from trainers.pipeline import Trainer
from trainers.processes import ALONE, Processes, join


def make_config(model: str) -> TrainerConfig:
    """Yield a recipe with every phase and every loss; five groups are no even number."""
    size = {"batch_size": 5, "learning_rate": 1e-3, "bucket_by_length": False}
    return TrainerConfig(
        task="qnli",
        device="cpu",
        data=DataConfig(num_train=128, num_validation=32, num_held_out=16),
        model=ModelConfig(source=model),
        prime=PrimeConfig(num_updates=6, bag_weight=0.5, **size),
        pretrain=PretrainConfig(num_updates=6, detect_weight=0.5, bag_weight=0.5, **size),
        finetune=FinetuneConfig(
            num_updates=6, distill_weight=0.5, state_distill_weight=0.5, **size
        ),
        prune=PruneConfig(
            num_updates=12, gate_learning_rate=1.0, tolerance=0.9, label_weight=0.2, **size
        ),
        finetune_pruned=FinetunePrunedConfig(num_updates=6, **size),
        accuracy=AccuracyConfig(num_compositions=1),
        throughput=ThroughputConfig(batch_size=2, num_repeats=2, num_warmup=1),
        checkpoint_interval_s=1e-6,
    )


def history(trainer: Trainer, report=lambda name, value, step: None) -> dict[str, list[float]]:
    """Train (2, 0.6), all processes together; yield the first one's curves by phase and value."""
    asked = {"num_instances": 2, "sparsity": 0.6, "seed": 7}
    if not trainer.processes.is_first:
        trainer.help_to_train(**asked)
        return {}
    curves: dict[str, list[float]] = {}
    for phase in trainer.train_and_measure(**asked, report=report).phases:
        assert phase.memory_mib > 1
        for point in phase.history:
            curves.setdefault(f"{phase.name}/{point.name}", []).append(point.value)
    return curves


class Scenarios:
    """The scenarios, each in a cache folder of its own."""

    def __init__(self, model: str, cache_dir: Path, processes: Processes) -> None:
        self.config, self.cache_dir, self.processes = make_config(model), cache_dir, processes

    def trainer(self, name: str, **changes) -> Trainer:
        config = replace(self.config, **changes)
        folder = self.cache_dir / name
        return Trainer(config, shared_seed=3, cache_dir=folder, processes=self.processes)

    def same(self) -> dict[str, list[float]]:
        """Nothing special happens; the others may not write, and all end with the same bits."""
        digests: list[set[str]] = []

        def run_phase(name, program, options, report):
            result = loop.run_phase(name, program, options, report)
            if name == "prune":  # no best weights, which the first process keeps alone
                digests.append(set(self.processes.exchange(digest(program))))
            return result

        stages.run_phase = run_phase
        if not self.processes.is_first:
            for name in ("save_model", "save_tensors", "save_text"):
                setattr(stages, name, refuse)
        curves = history(self.trainer("same"))
        stages.run_phase = loop.run_phase
        assert [len(found) for found in digests] == [1]
        return curves

    def short_of_memory(self) -> dict[str, list[float]]:
        """One process has no memory for two groups."""
        draw = FinetuneProgram._draw

        def draw_scarce(program, *asked):
            losses = draw(program, *asked)

            def scarce(rows):
                if rows.stop - rows.start > 1:
                    raise torch.OutOfMemoryError("no memory for two groups")
                return losses(rows)

            return losses if self.processes.is_first else scarce

        FinetuneProgram._draw = draw_scarce
        curves = history(self.trainer("memory"))
        FinetuneProgram._draw = draw
        return curves

    def broken(self) -> str:
        """One process meets an error that nobody expects."""
        draw = FinetuneProgram._draw

        def draw_broken(program, *asked):
            if not self.processes.is_first:
                raise KeyError("a bug")
            return draw(program, *asked)

        FinetuneProgram._draw = draw_broken
        try:
            history(self.trainer("broken"))
        except (KeyError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            FinetuneProgram._draw = draw
        return "nothing"

    def diverged(self) -> str:
        """All processes meet the same loss, which is no number."""
        finetune = replace(self.config.finetune, learning_rate=1e30)
        try:
            history(self.trainer("diverged", finetune=finetune))
        except Exception as error:
            return type(error).__name__
        return "nothing"

    def interrupted(self) -> dict[str, list[float]]:
        """The first process is asked to stop in each phase, and trains again."""
        seen: set[str] = set()

        def stop(name: str, value: float, step: int) -> None:
            if name.endswith("/step") and step == 3 and name not in seen:
                seen.add(name)
                raise KeyboardInterrupt

        while True:
            try:
                return history(self.trainer("interrupted"), stop)
            except KeyboardInterrupt:
                continue
            except RuntimeError:  # how the others hear of it
                assert not self.processes.is_first
                continue

    def too_many(self) -> str:
        """A batch has fewer groups than there are processes."""
        finetune = replace(self.config.finetune, batch_size=1)
        try:
            history(self.trainer("few", finetune=finetune))
        except ConfigError as error:
            return str(error)
        return "nothing"

    def other_data(self) -> str:
        """The processes read different examples."""
        data = replace(self.config.data, seed=self.processes.rank)
        try:
            self.trainer("data", data=data).check()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"


def digest(program) -> str:
    """Yield a hash of all weights of a phase."""
    found = hashlib.sha256()
    for module in program.modules.values():
        for tensor in module.state_dict().values():
            found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def refuse(*args, **options) -> None:
    """Stand for a function that only the first process may call."""
    raise AssertionError("another process than the first writes")


NAMES = (
    "same",
    "short_of_memory",
    "broken",
    "diverged",
    "interrupted",
    "too_many",
    "other_data",
)


def main(model: str, cache_dir: str, result: str) -> None:
    """Run all scenarios."""
    processes = join()
    assert processes is not ALONE
    scenarios = Scenarios(model, Path(cache_dir), processes)
    seen = {name: getattr(scenarios, name)() for name in NAMES}
    if processes.is_first:
        Path(result).write_text(json.dumps(seen), encoding="utf-8")
    processes.leave()


if __name__ == "__main__":
    loop.REPORT_EVERY = 1  # all losses are compared
    main(*sys.argv[1:])
