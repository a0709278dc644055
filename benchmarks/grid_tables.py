"""The tables of docs/builtin.md: what recorded grids measured, and their fastest cells.

    python benchmarks/grid_tables.py mnli-builtin-builtin qnli-builtin-builtin
    python benchmarks/grid_tables.py qnli-builtin-builtin --image docs/images/front.png

The image shows the first seed of the first recording; it needs the extra `report`.
"""

import argparse
from pathlib import Path
from statistics import geometric_mean

from autoprumux.evaluators.recording import Recording
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.records import Candidate

BUDGETS = (1, 3, 10)
"""Percentage points."""
IMAGE_BUDGET = 0.03
"""A fraction; drawn as a line."""


def main() -> None:
    """Print a table of each recording and one of the fastest cells of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", help="names or files of recordings")
    parser.add_argument("--image", type=Path, metavar="FILE", help="PNG of accuracy and speed-up")
    options = parser.parse_args()
    recordings = [load_recording(name) for name in options.names]
    if options.image:
        _draw(recordings[0], options.image)
    for recording in recordings:
        print(f"`{recording.task}`\n")
        print_grid(recording)
        print()
    print(f"| task | {' | '.join(map(str, BUDGETS))} |\n|---{'|---' * len(BUDGETS)}|")
    for recording in recordings:
        cells = (", ".join(_fastest(recording, budget)) for budget in BUDGETS)
        print(f"| `{recording.task}` | {' | '.join(cells)} |")


def print_grid(recording: Recording) -> None:
    """Print accuracies in percent, one for each seed, and the mean speed-up in brackets."""
    widths = sorted({c.num_instances for c in recording.candidates})
    print(f"| s | {' | '.join(f'N = {n}' for n in widths)} |\n|---{'|---' * len(widths)}|")
    for sparsity in sorted({c.sparsity for c in recording.candidates}):
        cells = (_cell(recording, Candidate(n, sparsity)) for n in widths)
        print(f"| {sparsity:.2f} | {' | '.join(cells)} |")


def _draw(recording: Recording, path: Path) -> None:
    from autoprumux.report.page.front import front_info
    from autoprumux.report.page.paper import write_front

    write_front(front_info(recording.as_study(recording.seeds[0]), [IMAGE_BUDGET]), path)


def _cell(recording: Recording, candidate: Candidate) -> str:
    found = [t.measurement for t in recording.trials if t.candidate == candidate]
    measured = [m for m in found if m is not None]
    accuracies = ", ".join(f"{100 * m.accuracy:.1f}" if m else "failed" for m in found)
    if not measured:
        return accuracies
    return f"{accuracies} ({geometric_mean(m.speedup for m in measured):.1f}x)"


def _fastest(recording: Recording, budget: float) -> list[str]:
    """Yield, per seed, the fastest cell that loses at most `budget` points."""
    found = []
    for seed in recording.seeds:
        study = recording.as_study(seed)
        assert study.baseline is not None
        least = study.baseline.accuracy - budget / 100 - 1e-9
        best = max(
            (c for c, m in study.measured.items() if m.accuracy >= least),
            key=lambda candidate: study.measured[candidate].speedup,
        )
        found.append(f"({best.num_instances}, {best.sparsity:.2f})")
    return found


if __name__ == "__main__":
    main()
