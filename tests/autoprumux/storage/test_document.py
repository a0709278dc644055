import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from autoprumux.storage.database import Database
from autoprumux.storage.schema import METADATA
from autoprumux.storage.views import VIEWS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "storage.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def section(name: str) -> str:
    """Yield what the document says under the heading of a table or view."""
    return DOCUMENT.split(f"### {name}\n", 1)[1].split("\n#", 1)[0]


def test_document_has_five_queries() -> None:
    assert len(QUERIES) == 5


@pytest.mark.parametrize("query", QUERIES)
def test_query_of_the_document_finds_rows(demo_database: Database, query: str) -> None:
    with demo_database.read() as connection:
        rows = connection.exec_driver_sql(query).all()

    assert len(rows) > 0
    assert all(value is not None for value in rows[0])


@pytest.mark.parametrize("name", sorted([*METADATA.tables, *VIEWS]))
def test_document_names_every_column(database: Database, name: str) -> None:
    with database.read() as connection:
        columns = {column["name"] for column in sa.inspect(connection).get_columns(name)}

    assert columns - set(re.findall(r"`(\w+)`", section(name))) == set()


@pytest.mark.parametrize("name", sorted(METADATA.tables))
def test_document_names_no_column_that_is_not_there(name: str) -> None:
    named = re.findall(r"^\| (`.*?) \|", section(name), flags=re.MULTILINE)

    columns = {column for cell in named for column in re.findall(r"`(\w+)`", cell)}
    assert columns <= set(METADATA.tables[name].columns.keys())
