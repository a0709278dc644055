"""The benchmark of searches and its parts."""

import sys

import pytest
from search_benchmark import imported_benchmark


@pytest.fixture(scope="module")
def benchmark():
    yield from imported_benchmark()


def _part(name):
    @pytest.fixture
    def part(benchmark):
        return sys.modules[name]

    return part


tables = _part("search_tables")
rivals = _part("search_rivals")
report = _part("search_report")
oracle = _part("search_oracle")
checks = _part("search_checks")
