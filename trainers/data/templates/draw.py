"""Fast random choices for the templates, from one seeded generator."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_BLOCK = 4096  # one call of numpy for so many choices; a call for each is ten times slower

CUE_RELIABILITY = 0.95
"""Share of `word` examples whose cue word points to the right class."""


class Draw:
    """Random choices in a fixed order: the same seed yields the same examples."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._block: list[float] = []

    def uniform(self) -> float:
        """Yield a number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(_BLOCK).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        """Yield True with this probability."""
        return self.uniform() < probability

    def below(self, limit: int) -> int:
        """Yield an integer in [0, limit)."""
        return int(self.uniform() * limit)

    def pick(self, pool: Sequence[Item]) -> Item:
        """Yield one item."""
        return pool[int(self.uniform() * len(pool))]

    def pick_other(self, pool: Sequence[Item], taken: Item) -> Item:
        """Yield one item that is not `taken`."""
        item = self.pick(pool)
        while item == taken:
            item = self.pick(pool)
        return item

    def pick_distinct(self, pool: Sequence[Item], number: int) -> list[Item]:
        """Yield `number` different items."""
        items: list[Item] = []
        while len(items) < number:
            item = self.pick(pool)
            if item not in items:
                items.append(item)
        return items

    def has_true_cue(self) -> bool:
        """Decide whether a `word` example follows its cue (mostly) or defies it."""
        return self.uniform() < CUE_RELIABILITY
