"""Which candidates the threads of `Study.optimize(n_jobs=...)` are about to try.

Optuna stores a trial's parameters one by one as its objective asks for them. Until then nothing in
the study tells the other threads which candidate a plain sampler has given to it.
"""

import threading

from autoprumux.records import Candidate, TrialRecord

_Key = tuple[str, int]


class ThreadClaims:
    """Candidates of the running trials of this process, by study and number.

    A copy, in another process perhaps, has none of them.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.turn = threading.RLock()
        """Held from the look at a study until its candidate is claimed."""
        self._claimed: dict[_Key, Candidate] = {}
        self._without: set[_Key] = set()

    def __reduce__(self) -> tuple[type["ThreadClaims"], tuple[()]]:
        return ThreadClaims, ()

    def take(self, study: str, number: int, candidate: Candidate) -> None:
        """Claim a candidate for a trial."""
        self._claimed[study, number] = candidate

    def give_none(self, study: str, number: int) -> None:
        """Note that no candidate was left for a trial."""
        self._without.add((study, number))

    def has_none(self, study: str, number: int) -> bool:
        """Yield whether no candidate was left for a trial."""
        return (study, number) in self._without

    def end(self, study: str, number: int) -> None:
        """Forget a trial: what it has tried, the study tells."""
        self._claimed.pop((study, number), None)
        self._without.discard((study, number))

    def running(self, study: str) -> list[TrialRecord]:
        """Yield the trials with a claim as the study will tell them."""
        return [
            TrialRecord(number=number, candidate=candidate, state="running")
            for (name, number), candidate in self._claimed.items()
            if name == study
        ]
