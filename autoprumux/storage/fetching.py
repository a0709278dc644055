"""Rows of our tables through SQLAlchemy, as `reading.py` asks for them."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import Connection, Select, bindparam, select

from autoprumux.storage.reading import Rows, StoredRow, Wanted
from autoprumux.storage.schema import METADATA


def rows_of(connection: Connection) -> Rows:
    """Yield the rows of our tables as `reading.py` asks for them."""

    def fetch(table: str, /, **where: Wanted) -> list[StoredRow]:
        kinds = tuple((name, isinstance(wanted, int | str)) for name, wanted in where.items())
        names, query = _rows_query(table, kinds)
        found = connection.execute(query, where).all()
        return [dict(zip(names, row, strict=True)) for row in found]

    return fetch


@cache  # making a statement takes as long as asking for few rows
def _rows_query(
    table: str, kinds: tuple[tuple[str, bool], ...]
) -> tuple[Sequence[str], Select[tuple[object, ...]]]:
    """Yield the columns of a table and the statement for rows; a column is one value or among."""
    found = METADATA.tables[table]
    conditions = [
        found.c[name] == bindparam(name)
        if is_one
        else found.c[name].in_(bindparam(name, expanding=True))
        for name, is_one in kinds
    ]
    return found.columns.keys(), select(found).where(*conditions).order_by(*found.primary_key)
