"""The table of `autoprumux replay`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def format_replay(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Yield one row per sampler, then the answers and trials of the first one's first search.

    Args:
        summaries: As `autoprumux.search.replay_summary.summarise` yields them.
    """
    numbers = list(summaries[0]["regret_after"])
    regrets = "".join(f"{number:>6}" for number in numbers)
    lines = [
        f"{summaries[0]['num_searches']} searches per sampler; regret: share of the best speed-up "
        "that is missed, in percent",
        "",
        f"{'':<18}{'trials until the best':>22}   regret after ... trials{'':<10}when it stops",
        f"{'sampler':<18}{'median':>12}{'90 %':>10}  {regrets}{'trials':>10}{'minutes':>9}"
        f"{'regret':>8}{'repeated':>10}",
        *map(_row, summaries),
        "",
        *_first_search(summaries[0]),
    ]
    return "\n".join(lines)


def _row(summary: Mapping[str, Any]) -> str:
    regrets = "".join(f"{100 * regret:6.1f}" for regret in summary["regret_after"].values())
    return (
        f"{summary['sampler']:<18}{summary['median_until_best']:12.1f}"
        f"{summary['percentile_90_until_best']:10.1f}  {regrets}"
        f"{summary['mean_until_stop']:10.1f}{summary['mean_minutes_until_stop']:9.1f}"
        f"{100 * summary['regret_at_stop']:8.1f}{summary['mean_repeated']:10.1f}"
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
