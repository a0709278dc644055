"""What is tried again after a failure, by its cause.

| cause | tried again | with |
|---|---|---|
| `out_of_memory` | twice | batches in twice as many parts each time |
| `nan` | once | half the learning rate in every phase |
| all others | never | - |

`killed` has no place here: a dead process cannot try again, so the next worker counts its deaths.
"""

from collections.abc import Mapping

from autoprumux.evaluators.base import Remedy
from autoprumux.records import FailureCause

REMEDIES: Mapping[FailureCause, tuple[Remedy, ...]] = {
    "out_of_memory": (
        Remedy(text="batches in 2 parts", num_parts=2),
        Remedy(text="batches in 4 parts", num_parts=4),
    ),
    "nan": (Remedy(text="half the learning rate", learning_rate_share=0.5),),
}
"""One per repetition, each against the study's configuration; other causes are final at once."""


def remedy_for(cause: FailureCause, num_tried: int) -> Remedy | None:
    """Yield what to change for the next repetition, or None if the failure is final.

    Args:
        cause: Why the trial failed.
        num_tried: Repetitions so far for this cause.
    """
    remedies = REMEDIES.get(cause, ())
    return remedies[num_tried] if num_tried < len(remedies) else None
