"""Migration to schema 3: runners-up of choices, and what stopped trials could have reached."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def add_choices(operations: "Operations") -> None:
    """Make one table and one column; choices of older trials have no runners-up."""
    key, numbers = (
        ("study_id", "number", "position"),
        ("chance", "expected_speedup", "expected_gain", "predicted_minutes", "score"),
    )
    operations.create_table(
        "prumux_runners_up",
        *(sa.Column(name, sa.Integer, nullable=False) for name in key),
        sa.Column("num_instances", sa.Integer, nullable=False),
        sa.Column("sparsity", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in numbers),
        sa.PrimaryKeyConstraint(*key),
        sa.ForeignKeyConstraint(
            ["study_id", "number"], ["prumux_starts.study_id", "prumux_starts.number"]
        ),
    )
    operations.add_column("prumux_failure_causes", sa.Column("reachable_accuracy", sa.Double))
