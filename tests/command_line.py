"""Runs of the command line, and what they are expected to say."""

import os
import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from autoprumux.cli.main import app
from autoprumux.evaluators.synthetic import SyntheticEvaluator

SEARCH = ["search", "--storage", "sqlite:///study.db"]
QUERY = ["query", "--storage", "sqlite:///study.db"]
FINISHED = [*SEARCH, "--budget", "1,3", "--max-trials", "6"]


class BuiltinEvaluator(SyntheticEvaluator):
    """Claims built-in data, and never trains."""

    @property
    def data_fingerprint(self) -> str:
        return "builtin:qnli:0123"


def run(arguments: list[str]):
    return CliRunner().invoke(app, arguments)


def run_python(code: str):
    """Run `code` in a fresh process that finds the package although the folder is another."""
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def assert_refused(result, message: str, exit_code: int) -> None:
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert re.fullmatch(f"error: {message}\n", result.stderr), result.stderr
    assert "Traceback" not in result.stderr
