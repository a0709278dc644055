"""The tables of `autoprumux replay`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def format_replay(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Yield two rows per sampler, then the answers and trials of the first one's first search.

    Args:
        summaries: As `autoprumux.search.replay_summary.summarise` yields them.
    """
    first = summaries[0]
    numbers = list(first["regret_after"])
    num_budgets = len(first["searches"][0]["answers"])
    lines = [
        f"{first['num_searches']} searches per sampler for {num_budgets} "
        f"budget{'s' * (num_budgets > 1)}; in brackets 95 % intervals over searches",
        "",
        f"trials until the best; p: one-sided test that {first['sampler']} needs fewer",
        f"{'sampler':<18}{'median':>19}{'90 %':>19}{'mean':>19}{'p':>9}{'repeated':>10}",
        *map(_trials_row, summaries),
        "",
        "regret: share of the best speed-up that is missed, in percent, after so many trials",
        f"{'':<18}{'':{14 * len(numbers)}}{'when it stops':>25}",
        f"{'sampler':<18}{''.join(f'{number:>14}' for number in numbers)}"
        f"{'regret':>8}{'trials':>8}{'minutes':>9}",
        *map(_regret_row, summaries),
        "",
        *_first_search(first),
    ]
    return "\n".join(lines)


def _trials_row(summary: Mapping[str, Any]) -> str:
    names = ("median_until_best", "percentile_90_until_best", "mean_until_best")
    cells = "".join(f"{_with_interval(summary, name):>19}" for name in names)
    p = summary["p_reference_needs_fewer"]
    shown = "" if p is None else f"{p:.2g}"
    return f"{summary['sampler']:<18}{cells}{shown:>9}{summary['mean_repeated']:10.1f}"


def _with_interval(summary: Mapping[str, Any], name: str) -> str:
    low, high = summary[f"{name}_interval"]
    return f"{summary[name]:.1f} ({low:.1f}-{high:.1f})"


def _regret_row(summary: Mapping[str, Any]) -> str:
    cells = []
    for number, regret in summary["regret_after"].items():
        low, high = summary["regret_after_interval"][number]
        cells.append(f"{100 * regret:.1f} ({100 * low:.0f}-{100 * high:.0f})")
    return (
        f"{summary['sampler']:<18}{''.join(f'{cell:>14}' for cell in cells)}"
        f"{100 * summary['regret_at_stop']:8.1f}{summary['mean_until_stop']:8.1f}"
        f"{summary['mean_minutes_until_stop']:9.1f}"
    )


def _first_search(summary: Mapping[str, Any]) -> Iterator[str]:
    search = summary["searches"][0]
    yield (
        f"{summary['sampler']}, seed {search['seed']}: stopped after "
        f"{search['num_until_stop']} trials ({search['stop_reason']})"
    )
    for answer in search["answers"]:
        yield (
            f"  within {100 * answer['budget']:.1f} points: N={answer['num_instances']} "
            f"s={answer['sparsity']:.2f}, {answer['speedup']:.2f}x of the "
            f"{answer['best_speedup']:.2f}x that there was to find"
        )
    for number, trial in enumerate(search["trials"]):
        yield _trial_line(number, trial, is_after_stop=number >= search["num_until_stop"])


def _trial_line(number: int, trial: Mapping[str, Any], *, is_after_stop: bool) -> str:
    start = f"trial {number:>2}  N={trial['num_instances']:<2} s={trial['sparsity']:.2f}"
    end = "  after the stop" if is_after_stop else ""
    if trial["failure"] is not None:
        return f"{start}  failed ({trial['failure']}){end}"
    return (
        f"{start}  accuracy {100 * trial['accuracy']:4.1f}  {trial['speedup']:6.2f}x"
        f"  {trial['minutes']:5.1f} min{end}"
    )
