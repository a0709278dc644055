"""Migration to schema 4: workers, attempts at trials, and how busy a measurement's machine was."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def add_workers(operations: "Operations") -> None:
    """Make two tables and four columns; a claim becomes that of the trial with its candidate."""
    operations.create_table(
        "prumux_workers",
        sa.Column(
            "study_id", sa.Integer, sa.ForeignKey("prumux_studies.study_id"), nullable=False
        ),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("process", sa.Integer, nullable=False),
        sa.Column("process_start", sa.Text, nullable=False),
        sa.Column("joined_at", sa.Text, nullable=False),
        sa.Column("beat_at", sa.Text, nullable=False),
        sa.Column("left_at", sa.Text),
        sa.PrimaryKeyConstraint("study_id", "worker"),
    )
    operations.create_table(
        "prumux_attempts",
        sa.Column(
            "study_id", sa.Integer, sa.ForeignKey("prumux_studies.study_id"), nullable=False
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("remedy", sa.Text, nullable=False),
        sa.Column("began_at", sa.Text, nullable=False),
        sa.Column("training_at", sa.Text),
        sa.Column("ended_at", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("cause", sa.Text),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint("study_id", "number", "attempt"),
    )
    operations.add_column("prumux_claims", sa.Column("number", sa.Integer))
    operations.execute(
        "UPDATE prumux_claims SET number = (SELECT MAX(s.number) FROM prumux_starts s"
        " WHERE s.study_id = prumux_claims.study_id"
        " AND s.num_instances = prumux_claims.num_instances"
        " AND s.sparsity = prumux_claims.sparsity)"
    )
    operations.add_column("prumux_throughputs", sa.Column("baseline_spread", sa.Double))
    operations.add_column("prumux_throughputs", sa.Column("is_clean", sa.Boolean))
