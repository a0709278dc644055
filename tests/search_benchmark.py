"""The benchmark of searches as a module, its options and its results."""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"


def imported_benchmark():
    """Yield the module `benchmarks/search.py` and take it and its parts out again."""
    parts = [path.stem for path in FOLDER.glob("search_*.py")]
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_of_search", FOLDER / "search.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    yield module
    for name in (spec.name, "common", "calibrations", *parts):
        sys.modules.pop(name, None)


def options(folder, **changes):
    defaults = {"family": "tuning", "tables": 2, "samplers": "grid", "seeds": 1, "thin": 1}
    return Namespace(out=folder, **(defaults | {"shard": "0/1", "record": None} | changes))


def case(index, firsts, sampler="performance_model"):
    searches = [
        {
            "seed": seed,
            "num_until_best": first,
            "num_repeated": 0,
            "num_until_stop": 8,
            "regret_at_stop": 0.0,
            "regret_after": {str(number): 0.01 for number in (4, 6, 8, 12, 16)},
        }
        for seed, first in enumerate(firsts)
    ]
    return {"index": index, "sampler": sampler, "num_candidates": 36, "searches": searches}
