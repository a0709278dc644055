"""Search, performance models, storage and answers of Auto-PruMUX.

The public functions are loaded on first use. `search_task` is not called `search`, because that is
the name of a subpackage.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprumux.api.bench import bench
    from autoprumux.api.export import export_task
    from autoprumux.api.search import search_task
    from autoprumux.api.stored import query

__all__ = ["bench", "export_task", "query", "search_task"]

_MODULES = {
    "bench": "autoprumux.api.bench",
    "export_task": "autoprumux.api.export",
    "query": "autoprumux.api.stored",
    "search_task": "autoprumux.api.search",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
