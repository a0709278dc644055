"""Which candidates of a study the surrogates learn from and which they are asked for.

The paper measures N = 1 and s = 0 (edges) and predicts the pruned multiplexed rest, from a
training grid that leaves out three sparsities (reference-spec, section 7.2).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from autoprumux.records import Candidate, Measurement

UNSEEN_SPARSITIES = (0.65, 0.75, 0.85)
"""Nothing is fitted on these; all other sparsities are the paper's training grid."""


@dataclass(frozen=True)
class MeasuredGrid:
    """The measured candidates of one study."""

    measured: Mapping[Candidate, Measurement]
    """The dense baseline among them."""

    @property
    def baseline_accuracy(self) -> float:
        """Accuracy of the dense baseline."""
        return self.measured[Candidate(1, 0.0)].accuracy

    @property
    def fitted(self) -> dict[Candidate, Measurement]:
        """What the surrogates learn from."""
        return {c: m for c, m in self.measured.items() if is_fitted(c)}

    @property
    def training(self) -> list[Candidate]:
        """The part of it that one candidate after the other is left out of, in order."""
        return sorted(candidate for candidate in self.fitted if is_inner(candidate))

    @property
    def unseen(self) -> list[Candidate]:
        """Pruned multiplexed candidates that nothing is fitted on, in order."""
        return sorted(c for c in self.measured if is_inner(c) and c not in self.fitted)


def is_fitted(candidate: Candidate) -> bool:
    """True for the candidates that surrogates may learn from."""
    return candidate.sparsity not in UNSEEN_SPARSITIES


def is_inner(candidate: Candidate) -> bool:
    """True for the candidates that the paper predicts; the others are measured."""
    return candidate.num_instances > 1 and candidate.sparsity > 0
