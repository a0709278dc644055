"""This worker among the others of its study."""

import threading
from dataclasses import dataclass

from autoprumux.search.presence import is_alive
from autoprumux.storage.attempts import AttemptBook, Worker


@dataclass(frozen=True)
class Team:
    """This worker among the others of the study."""

    book: AttemptBook
    worker: Worker
    stop: threading.Event

    @property
    def num_open(self) -> int:
        """Trials that other workers have begun and not ended, dead ones included."""
        return self.book.num_open(self.worker)

    @property
    def num_others_at_work(self) -> int:
        """Trials that other live workers have under way."""
        return self.book.num_at_work(self.worker, is_alive)

    @property
    def is_first(self) -> bool:
        """True for the live worker that joined first; it trains the dense baseline."""
        present = (p.worker.name for p in self.book.presences() if is_alive(p))
        return next(present, self.worker.name) == self.worker.name

    def begin(self, number: int) -> bool:
        """Begin an attempt at a trial; False if it is another worker's or finished."""
        return self.book.begin(number, self.worker, is_alive)

    def wait(self, seconds: float) -> None:
        """Wait.

        Raises:
            KeyboardInterrupt: If the search is to stop.
        """
        if self.stop.wait(seconds):
            raise KeyboardInterrupt
