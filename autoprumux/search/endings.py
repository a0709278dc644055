"""When a search ends, and how it says why."""

from collections import Counter
from collections.abc import Sequence

from autoprumux.config import SearchConfig
from autoprumux.errors import NoBaselineError
from autoprumux.records import Candidate, Failure, StudyRecord
from autoprumux.search.acquisition import chance_to_beat
from autoprumux.search.sampler import fit_model, worth_trying
from autoprumux.search.space import SearchSpace
from autoprumux.surrogates.related import Others

MIN_TRIALS = 6
"""Trained trials before the search may call its answer settled. With fewer, predicted intervals
rest on the prior more than on this task, and there are no runners-up."""

OTHERS_TOOK_THE_LAST = "other processes work on the last candidates"


def is_settled(
    record: StudyRecord,
    space: SearchSpace,
    search: SearchConfig,
    free: Sequence[Candidate],
    others: Others | None = None,
) -> bool:
    """Yield whether none of the `free` candidates has a fair chance of beating the best.

    Args:
        record: The study.
        space: The candidates.
        search: Budgets and stop rule.
        free: What may be chosen.
        others: What studies of other tasks tell.
    """
    is_early = record.baseline is None or num_trained(record) < MIN_TRIALS
    if is_early or search.stop_chance == 0:  # 0 asks for the whole grid
        return False
    model = fit_model(record, space, others)
    free = worth_trying(model, free, search.budgets)
    chance = chance_to_beat(model, record.measured, free, search.budgets, search.stop_gain)
    return chance <= search.stop_chance


def why_settled(
    record: StudyRecord,
    space: SearchSpace,
    search: SearchConfig,
    free: Sequence[Candidate],
    others: Others | None = None,
) -> str | None:
    """Yield why none of the `free` candidates is worth a trial, or None; see `is_settled`."""
    if not is_settled(record, space, search, free, others):
        return None
    return (
        f"settled: no untried candidate has more than a {100 * search.stop_chance:g} % chance "
        f"of beating the verified best by more than {100 * search.stop_gain:g} %"
    )


def failed_baselines(record: StudyRecord) -> frozenset[int]:
    """Yield the numbers of the trials of the dense baseline that failed."""
    return frozenset(
        t.number for t in record.trials if t.candidate.is_baseline and t.failure is not None
    )


def require_no_new_failure(record: StudyRecord, failed_before: frozenset[int]) -> None:
    """Refuse to go on after the dense baseline failed, whoever trained it.

    Raises:
        NoBaselineError: If it failed since this search began, with the reason.
    """
    if record.baseline is not None:
        return
    for trial in record.trials:
        is_new = trial.candidate.is_baseline and trial.number not in failed_before
        if is_new and trial.failure is not None:
            raise NoBaselineError(
                f"The dense baseline failed ({trial.failure.cause}): {trial.failure.message} "
                "Nothing can be compared without it; run the same command again to try it again."
            )


def explained(reason: str, record: StudyRecord) -> str:
    """Add to a reason to stop that nothing but the dense baseline worked, if so, and why."""
    trials = [trial for trial in record.trials if not trial.candidate.is_baseline]
    failures = [trial.failure for trial in trials if trial.failure is not None]
    if not failures or len(failures) < len(trials):
        return reason
    return f"{reason}; all trials but the dense baseline failed, {_most_often(failures)}"


def _most_often(failures: Sequence[Failure]) -> str:
    """Yield the most frequent cause with an example."""
    cause, count = Counter(failure.cause for failure in failures).most_common(1)[0]
    message = next(failure.message for failure in failures if failure.cause == cause)
    return f"{count} of {len(failures)} with {cause}: {message.rstrip('.')}"


def num_trained(record: StudyRecord) -> int:
    """Count the trials that ended, failed ones included."""
    return sum(trial.state != "running" for trial in record.trials)
