"""What the code never does, whoever calls it."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = [path for name in ("autoprumux", "trainers") for path in (ROOT / name).rglob("*.py")]
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "numpy.load", "np.load"}
FORBIDDEN_CALLS |= {"os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle"}
CODE_IN_CHECKPOINTS = {"AutoConfig", "AutoTokenizer", "AutoModelForSequenceClassification"}
OWN_SQL = {"autoprumux/storage/access.py", "autoprumux/storage/database.py"}
"""Names of our own tables and a number of our own; values are bound there, too."""


@cache
def all_nodes():
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
    ]


def nodes(kind):
    return ((path, node) for path, node in all_nodes() if isinstance(node, kind))


def test_no_module_that_runs_code_while_it_loads_is_imported():
    for path, node in nodes((ast.Import, ast.ImportFrom)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        found = {str(name).partition(".")[0] for name in names} & FORBIDDEN_MODULES
        assert not found, (path, node.lineno, found)


def test_nothing_evaluates_text_or_unpickles():
    for path, node in nodes(ast.Call):
        name = ast.unparse(node.func)
        assert name not in FORBIDDEN_CALLS, (path, node.lineno)
        for word in node.keywords:
            is_trusting = word.arg == "trust_remote_code" and ast.unparse(word.value) != "False"
            assert not is_trusting, (path, node.lineno)
            assert word.arg not in ("allow_pickle", "shell"), (path, node.lineno)


def test_what_loads_a_named_checkpoint_refuses_its_code():
    found = 0
    for path, node in nodes(ast.Call):
        owner, _, method = ast.unparse(node.func).rpartition(".")
        if method == "from_pretrained" and owner in CODE_IN_CHECKPOINTS:
            if path == "trainers/serving/export.py":
                continue  # a directory that this program has just written
            assert "trust_remote_code" in [word.arg for word in node.keywords], path
            found += 1
    assert found == 2


@pytest.mark.parametrize("method", ["execute", "exec_driver_sql", "executemany", "text"])
def test_values_in_sql_are_bound(method):
    for path, node in nodes(ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == method and node.args and path not in OWN_SQL and "storage/" in path:
            built = ast.JoinedStr, ast.BinOp
            is_view = path.endswith("views.py")  # texts of this package alone
            assert is_view or not isinstance(node.args[0], built), (path, node.lineno)
