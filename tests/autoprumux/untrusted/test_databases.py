"""Every command on databases of other versions, of other programs, and damaged ones."""

import os
import sqlite3

import optuna
import pytest

from autoprumux.storage.migrations import newest_version

NEWEST = newest_version()
READING = {
    "query": ("query",),
    "failures": ("query", "--failures"),
    "profiles": ("query", "--device-profiles"),
    "validate": ("validate",),
    "record": ("record", "--study", "qnli-golden", "--out", "recordings"),
    "report": ("report", "--out", "page.html"),
    "export": ("export", "--out", "model"),
    "dashboard": ("dashboard", "--no-open", "--port", "-1"),
    "bench": ("bench", "qnli-golden"),
    "worker": ("worker",),
}
"""All commands that need a database; the dashboard ends at once at its impossible port."""
OFTEN = ("query", "report", "worker")
"""Those tried in every run of the tests; the others open a database in the same ways."""
COMMANDS = READING | {"search": ("search", "--task", "qnli", "--max-trials", "1")}


def each(names):
    """Yield parameters, those that are not tried often marked as slow."""
    return [n if n in OFTEN else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def no_database(file):
    file.write_bytes(b"what is this?" * 500)


def empty_sqlite(file):
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE cats (name TEXT)")
    connection.commit()
    connection.close()


def foreign_optuna(file):
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    study = optuna.create_study(storage=storage, study_name="qnli-embedded")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.remove_session()
    storage.engine.dispose()


def folder(file):
    file.mkdir()


def pipe(file):
    os.mkfifo(file)


@pytest.mark.parametrize("command", each(READING))
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (no_database, "is not an SQLite database"),
        (empty_sqlite, "holds no studies of autoprumux"),
        (foreign_optuna, "holds no studies of autoprumux"),
        (folder, "is a folder"),
        (pipe, "is a pipe or a device"),
        (lambda _: None, "There is no database at"),
    ],
    ids=["no_database", "empty_sqlite", "foreign_optuna", "folder", "pipe", "missing"],
)
def test_what_is_no_database_of_ours_is_named(run, tmp_path, command, make, sentence):
    file = tmp_path / "other.db"
    make(file)
    before = file.read_bytes() if file.is_file() else None

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert sentence in ended.error
    assert before is None or file.read_bytes() == before


@pytest.mark.parametrize("command", each(COMMANDS))
def test_a_newer_schema_is_refused(run, restore, change, command):
    file = restore()
    change(file, f"UPDATE prumux_schema_version SET version = {NEWEST + 1}")
    before = file.read_bytes()

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert f"newer autoprumux (schema {NEWEST + 1}, this one knows {NEWEST})" in ended.error
    assert file.read_bytes() == before


@pytest.mark.parametrize("command", each(COMMANDS))
def test_a_truncated_file_is_damaged(run, restore, command):
    file = restore()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert "is damaged" in ended.error


@pytest.mark.parametrize("command", each(READING))
def test_pages_of_rubbish_end_in_a_sentence(run, restore, command):
    file = restore()
    content = bytearray(file.read_bytes())
    for page in range(4096, len(content) - 4096, 8192):
        content[page : page + 2048] = b"\xa5" * 2048
    file.write_bytes(content)

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert ended.error.endswith(".")


@pytest.mark.parametrize("command", each(["query", "export", "dashboard", "report", "worker"]))
@pytest.mark.parametrize("version", range(1, NEWEST))
def test_an_older_schema_is_taken_forward_and_kept(run, restore, tmp_path, command, version):
    file = restore(version)

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    copy = tmp_path / f"study.db.schema-{version}"
    assert copy.is_file()
    for path, expected in ((file, NEWEST), (copy, version)):
        connection = sqlite3.connect(path)
        (stored,) = connection.execute("SELECT version FROM prumux_schema_version").fetchone()
        connection.close()
        assert stored == expected
    if command in ("query", "report"):
        assert ended.code == 0
    else:  # they go on to what the golden study lacks
        assert "schema" not in ended.error


def test_a_text_that_is_no_utf8_is_damage(run, restore, change):
    file = restore()
    change(file, "UPDATE prumux_studies SET task = CAST(x'ff41' AS TEXT)")

    ended = run("query", "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert "UTF-8" in ended.error


@pytest.mark.parametrize("command", each(["query", "report", "export", "dashboard", "worker"]))
def test_a_table_that_is_a_view_without_end_is_refused(run, restore, change, command):
    file = restore()
    change(
        file,
        "PRAGMA foreign_keys = OFF",
        "DROP TABLE prumux_budgets",
        "CREATE VIEW prumux_budgets AS WITH RECURSIVE r(study_id, position, budget) AS "
        "(SELECT 1, 0, 0.01 UNION ALL SELECT 1, position + 1, 0.01 FROM r) SELECT * FROM r",
    )

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert "`prumux_budgets`" in ended.error


DAMAGE = {
    "no JSON": "UPDATE prumux_studies SET config_json = '{'",
    "deep JSON": f"UPDATE prumux_studies SET config_json = '{'[' * 5000}'",
    "another kind": "UPDATE prumux_studies SET config_json = '[1]'",
    "a large grid": "UPDATE prumux_studies SET config_json = "
    f"""'{{"search": {{"widths": {list(range(1, 999))}, "sparsities": {[0.0] * 99}}}}}'""",
    "a text": "UPDATE prumux_measurements SET accuracy = 'high'",
    "infinity": "UPDATE prumux_throughputs SET speedup = 9e999",
    "a wrong accuracy": "UPDATE prumux_measurements SET accuracy = 7.0",
    "layers that are none": "UPDATE prumux_measurements SET head_counts = '[1e9]'",
    "bytes": "UPDATE prumux_studies SET name = x'00ff'",
    "a negative width": "UPDATE prumux_starts SET num_instances = -5",
    "a null byte": "UPDATE prumux_measurements SET checkpoint = CAST(x'2f00' AS TEXT)",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", each(["query", "report", "export", "validate", "worker"]))
def test_values_that_no_search_stores_are_named(run, restore, change, command, damage):
    file = restore()
    change(file, "PRAGMA foreign_keys = OFF", DAMAGE[damage])

    ended = run(*COMMANDS[command], "--storage", f"sqlite:///{file}")

    assert ended.code == 1
    assert "what autoprumux did not write" in ended.error


def test_sql_in_names_stays_text(run, restore):
    file = restore()
    evil = "x'; DROP TABLE prumux_studies; --"

    for words in (("--study", evil), ("--task", evil), ("--device-profile", evil)):
        assert run("query", *words, "--storage", f"sqlite:///{file}").code in (1, 2)

    assert run("query", "--storage", f"sqlite:///{file}").code == 0


def test_names_from_a_database_cannot_steer_the_terminal(run, restore, change):
    file = restore()
    change(file, "UPDATE prumux_studies SET task = 'a' || char(27) || '[2Jb'")

    for command in (("query",), ("query", "--task", "other"), ("report",)):
        ended = run(*command, "--storage", f"sqlite:///{file}")
        assert "\x1b" not in ended.out + ended.err
