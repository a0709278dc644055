"""Migration to schema 6: what choices rest on, factors of scores and trials of other studies."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def add_reasons(operations: "Operations") -> None:
    """Make one table and five columns; the columns stay empty for choices made before."""
    for table in ("prumux_starts", "prumux_runners_up"):
        for name in ("chance_best", "log_gain"):
            operations.add_column(table, sa.Column(name, sa.Double))
    operations.add_column("prumux_studies", sa.Column("prior_at", sa.Text))
    operations.create_table(
        "prumux_prior_trials",
        sa.Column(
            "study_id", sa.Integer, sa.ForeignKey("prumux_studies.study_id"), nullable=False
        ),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column(
            "prior_id", sa.Integer, sa.ForeignKey("prumux_studies.study_id"), nullable=False
        ),
        sa.PrimaryKeyConstraint("study_id", "position", "number"),
    )
