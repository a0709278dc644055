"""What is tried again after a failure, by its cause, or after deaths.

| cause | tried again | with |
|---|---|---|
| `out_of_memory` | twice | batches in twice as many parts each time |
| `nan` | once | half the learning rate in every phase |
| all others | never | - |

A dead process cannot try again, so the next worker counts the deaths in a trial. The first changes
nothing: what killed a process may be anything, and the trial ends with the bits of an undisturbed
one. From the second on it was probably short of memory, which Linux tells a process by killing it,
so batches go through in 2^deaths parts, up to the last attempt; then the trial is `killed`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoprumux.evaluators.base import Remedy
from autoprumux.records import Failure, FailureCause
from autoprumux.storage.attempts import Attempt

REMEDIES: Mapping[FailureCause, tuple[Remedy, ...]] = {
    "out_of_memory": (
        Remedy(text="batches in 2 parts", num_parts=2),
        Remedy(text="batches in 4 parts", num_parts=4),
    ),
    "nan": (Remedy(text="half the learning rate", learning_rate_share=0.5),),
}
"""One per repetition, each against the study's configuration; other causes are final at once."""
MOST_DOUBLINGS = 20
"""No batch has more groups than a million."""


def remedy_for(cause: FailureCause, num_tried: int, before: Remedy | None = None) -> Remedy | None:
    """Yield what to change for the next repetition, or None if the failure is final.

    Args:
        cause: Why the trial failed.
        num_tried: Repetitions so far for this cause.
        before: What the attempts so far did differently because of deaths.
    """
    remedies = REMEDIES.get(cause, ())
    if num_tried >= len(remedies):
        return None
    remedy = remedies[num_tried]
    if before is None:
        return remedy
    num_parts = before.num_parts * remedy.num_parts
    text = _in_parts(num_parts) if remedy.num_parts > 1 else f"{remedy.text}, {before.text}"
    return replace(remedy, num_parts=num_parts, text=text)


def deaths_among(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Yield the attempts at a trial in which a process died while it trained."""
    return [a for a in attempts if a.is_trained and a.outcome == "lost"]


def killed_by(deaths: Sequence[Attempt]) -> Failure:
    """Yield the failure of a trial in which too many processes died."""
    message = (
        f"{len(deaths)} processes died while they trained it, the last of them "
        f"{deaths[-1].worker}; the machine may be short of memory."
    )
    return Failure(cause="killed", message=message)


def remedy_after(num_deaths: int) -> Remedy | None:
    """Yield what to change in a trial in which so many processes died, if anything."""
    if num_deaths < 2:
        return None
    num_parts = 2 ** min(num_deaths, MOST_DOUBLINGS)
    return Remedy(text=_in_parts(num_parts), num_parts=num_parts)


def _in_parts(num_parts: int) -> str:
    return f"batches in {num_parts} parts"
