"""Migration to schema 5: hyperparameters that are searched with (N, s)."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def add_hyperparameters(operations: "Operations") -> None:
    """Make one table and three columns; older trials have their studies' own values."""
    for table in ("prumux_starts", "prumux_runners_up"):
        operations.add_column(table, _values())
    _replace_claims(operations)
    operations.create_table(
        "prumux_trial_hyperparameters",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("is_own", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("study_id", "number", "name"),
        sa.ForeignKeyConstraint(
            ["study_id", "number"], ["prumux_starts.study_id", "prumux_starts.number"]
        ),
    )


def _replace_claims(operations: "Operations") -> None:
    """Make the table of claims anew: SQLite cannot widen what is unique in it."""
    operations.create_table(
        "prumux_claims_of_schema_5",
        sa.Column(
            "study_id", sa.Integer, sa.ForeignKey("prumux_studies.study_id"), nullable=False
        ),
        sa.Column("num_instances", sa.Integer, nullable=False),
        sa.Column("sparsity", sa.Double, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("claimed_at", sa.Text, nullable=False),
        sa.Column("number", sa.Integer),
        _values(),
        sa.UniqueConstraint("study_id", "num_instances", "sparsity", "hyperparameters"),
    )
    operations.execute(
        "INSERT INTO prumux_claims_of_schema_5"
        " (study_id, num_instances, sparsity, worker, claimed_at, number)"
        " SELECT study_id, num_instances, sparsity, worker, claimed_at, number FROM prumux_claims"
    )
    operations.drop_table("prumux_claims")
    operations.rename_table("prumux_claims_of_schema_5", "prumux_claims")


def _values() -> sa.Column[str]:
    return sa.Column("hyperparameters", sa.Text, nullable=False, server_default="{}")
