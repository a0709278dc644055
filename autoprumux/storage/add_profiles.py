"""Migration to schema 2: device profiles, their calibrations, and whose a throughput is."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def add_profiles(operations: "Operations") -> None:
    """Make three tables and one column; stored throughputs stay the trials' own."""
    operations.create_table(
        "prumux_profiles",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("processor", sa.Text, nullable=False),
        sa.Column("dtype", sa.Text, nullable=False),
        sa.Column("batch_size", sa.Integer, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("num_threads", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    operations.create_table(
        "prumux_calibrations",
        sa.Column("calibration_id", sa.Integer, primary_key=True),
        sa.Column("profile", sa.Text, sa.ForeignKey("prumux_profiles.name"), nullable=False),
        sa.Column("encoder_json", sa.Text, nullable=False),
        sa.Column("coefficients_json", sa.Text, nullable=False),
        sa.Column("log_std", sa.Double, nullable=False),
        sa.Column("baseline_throughput", sa.Double, nullable=False),
        sa.Column("num_repeats", sa.Integer, nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    operations.create_table(
        "prumux_calibration_timings",
        sa.Column(
            "calibration_id",
            sa.Integer,
            sa.ForeignKey("prumux_calibrations.calibration_id"),
            nullable=False,
        ),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("num_instances", sa.Integer, nullable=False),
        sa.Column("hidden_size", sa.Integer, nullable=False),
        sa.Column("head_counts", sa.Text, nullable=False),
        sa.Column("feedforward_sizes", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("seconds_q1", sa.Double, nullable=False),
        sa.Column("seconds_q3", sa.Double, nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("calibration_id", "position"),
    )
    # SQLite adds a foreign key with its column only.
    operations.execute(
        "ALTER TABLE prumux_throughputs ADD COLUMN profile TEXT REFERENCES prumux_profiles (name)"
    )
