"""The benchmark of searches and its parts."""

import sys

import pytest
from search_benchmark import imported_benchmark


@pytest.fixture(scope="module")
def benchmark():
    yield from imported_benchmark()


@pytest.fixture
def tables(benchmark):
    return sys.modules["search_tables"]


@pytest.fixture
def rivals(benchmark):
    return sys.modules["search_rivals"]


@pytest.fixture
def report(benchmark):
    return sys.modules["search_report"]


@pytest.fixture
def oracle(benchmark):
    return sys.modules["search_oracle"]


@pytest.fixture
def checks(benchmark):
    return sys.modules["search_checks"]
