"""Search, performance models, storage and answers of Auto-PruMUX.

The public functions are loaded on first use. They are not called `search` and `query`, because
those are the names of a subpackage and of a module here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprumux.api import query_task, search_task

__all__ = ["query_task", "search_task"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("autoprumux.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
