"""Optuna's storage as this program opens it."""

from typing import Any

from optuna.storages import RDBStorage


class ClosingStorage(RDBStorage):
    """Closes its connections if it cannot be made.

    Of workers that make Optuna's tables at once all but one fail; what those had opened would be
    left to the garbage collector otherwise.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        try:
            super().__init__(*arguments, **options)
        except BaseException:
            if hasattr(self, "engine"):
                self.close()
            raise

    def close(self) -> None:
        """Close the connections; a later use opens new ones."""
        self.remove_session()
        self.engine.dispose()
