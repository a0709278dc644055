"""The paper's throughput model: one task's measured table serves all tasks."""

import math
from collections.abc import Sequence

from autoprumux.records import Candidate
from autoprumux.surrogates.base import Prediction, check_points
from autoprumux.surrogates.bilinear import BilinearSurrogate


class TableSurrogate:
    """Log speed-up from a table of measured speed-ups (PruMUX, Su et al. 2023, section 4.2).

    The speed-up itself, not its logarithm, is bilinear between the points of the table.
    """

    def __init__(self) -> None:
        self._speedup = BilinearSurrogate()

    def fit(self, candidates: Sequence[Candidate], values: Sequence[float]) -> None:
        """See `Surrogate.fit`; values are natural logarithms of one task's speed-ups."""
        check_points(candidates, values)
        self._speedup.fit(candidates, [math.exp(value) for value in values])

    def predict(self, candidates: Sequence[Candidate]) -> list[Prediction | None]:
        """See `Surrogate.predict`."""
        return [
            None
            if prediction is None
            else Prediction(math.log(prediction.mean), prediction.std / prediction.mean)
            for prediction in self._speedup.predict(candidates)
        ]
