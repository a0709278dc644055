"""Many inputs for every target: `PYTHONPATH=tests python -m fuzz --examples 300 [TARGET ...]`.

With every input that Hypothesis makes, and shrinks if it finds a defect, go `--batch` others that
are changed at random, which takes far less time. Prints, per target, how many inputs were taken
and refused; the first defect ends the run.
"""

import argparse
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.strategies import inputs, random_inputs
from fuzz.targets import TARGETS, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    parser.add_argument("--examples", type=int, default=300, help="inputs of Hypothesis")
    parser.add_argument("--batch", type=int, default=20, help="others with each of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total = 0
    for target in options.targets:
        total += fuzz(target, options.examples, options.seed, batch=options.batch)
    print(f"{total} inputs in all, no defect")


def fuzz(target: str, num_examples: int, number: int, *, batch: int = 0) -> int:
    """Run inputs of a target, and yield how many there were."""
    counts: Counter[bool] = Counter()
    started = time.monotonic()

    @seed(number)
    @settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(content=inputs(target), state=st.integers(0, 2**32))
    def check(content: bytes, state: int) -> None:
        for each in (content, *random_inputs(target, state, batch)):
            try:
                counts[run(target, each)] += 1
            except BaseException as error:
                error.add_note(f"the input of {target}: {each!r}")
                raise

    check()
    seconds = time.monotonic() - started
    print(
        f"{target:<18} {counts[True]:>7} taken {counts[False]:>7} refused {seconds:7.0f} s",
        flush=True,
    )
    return counts.total()


if __name__ == "__main__":
    main()
