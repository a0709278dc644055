"""Our tables, which live beside Optuna's in one database; docs/storage.md explains every column.

`prumux_trials`, `prumux_front`, `prumux_best_by_budget`, `prumux_failures`, `prumux_choices`,
`prumux_priors` and `prumux_environment` are views (`views.py`), so no table may take these names.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

SCHEMA_VERSION_TABLE = Table(
    "prumux_schema_version",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("views_hash", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
)

STUDIES = Table(
    "prumux_studies",
    METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("task", Text, nullable=False),
    Column("config_json", Text, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("data_fingerprint", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    Column("prior_at", Text),  # empty until the search has looked for other studies to learn from
)

PRIOR_TRIALS = Table(
    "prumux_prior_trials",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("prior_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    PrimaryKeyConstraint("study_id", "position", "number"),
)

BUDGETS = Table(
    "prumux_budgets",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("budget", Double, nullable=False),
    PrimaryKeyConstraint("study_id", "position"),
)


def _score_factors() -> tuple[Column[float], Column[float]]:
    """Yield the columns that a score is computed from, beside minutes; empty before schema 6."""
    return Column("chance_best", Double), Column("log_gain", Double)


def _hyperparameters() -> Column[str]:
    """Yield the column of a candidate's values that differ from the study's own, a JSON object."""
    return Column("hyperparameters", Text, nullable=False, server_default="{}")


CLAIMS = Table(
    "prumux_claims",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    Column("num_instances", Integer, nullable=False),
    Column("sparsity", Double, nullable=False),
    Column("worker", Text, nullable=False),
    Column("claimed_at", Text, nullable=False),
    Column(
        "number", Integer
    ),  # the trial it is for; empty in claims before schema 4 without a start
    _hyperparameters(),
    UniqueConstraint("study_id", "num_instances", "sparsity", "hyperparameters"),
)

WORKERS = Table(
    "prumux_workers",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    Column("worker", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("process", Integer, nullable=False),
    Column("process_start", Text, nullable=False),
    Column("joined_at", Text, nullable=False),
    Column("beat_at", Text, nullable=False),
    Column("left_at", Text),
    PrimaryKeyConstraint("study_id", "worker"),
)

ATTEMPTS = Table(
    "prumux_attempts",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("began_at", Text, nullable=False),
    Column("training_at", Text),
    Column("ended_at", Text),
    Column("outcome", Text),
    Column("cause", Text),
    Column("message", Text),
    PrimaryKeyConstraint("study_id", "number", "attempt"),
)

STARTS = Table(
    "prumux_starts",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("num_instances", Integer, nullable=False),
    Column("sparsity", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("chance", Double),
    Column("expected_speedup", Double),
    Column("expected_gain", Double),
    Column("predicted_minutes", Double),
    Column("score", Double),
    Column("started_at", Text, nullable=False),
    _hyperparameters(),
    *_score_factors(),
    PrimaryKeyConstraint("study_id", "number"),
)

RUNNERS_UP = Table(
    "prumux_runners_up",
    METADATA,
    Column("study_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("num_instances", Integer, nullable=False),
    Column("sparsity", Double, nullable=False),
    Column("chance", Double, nullable=False),
    Column("expected_speedup", Double, nullable=False),
    Column("expected_gain", Double, nullable=False),
    Column("predicted_minutes", Double, nullable=False),
    Column("score", Double, nullable=False),
    _hyperparameters(),
    *_score_factors(),
    PrimaryKeyConstraint("study_id", "number", "position"),
    ForeignKeyConstraint(["study_id", "number"], [STARTS.c.study_id, STARTS.c.number]),
)


def _of_trial() -> tuple[Column[int], Column[int], ForeignKeyConstraint]:
    """Yield the two columns that name a trial and their foreign key."""
    return (
        Column("study_id", Integer, nullable=False),
        Column("number", Integer, nullable=False),
        ForeignKeyConstraint(["study_id", "number"], [STARTS.c.study_id, STARTS.c.number]),
    )


HYPERPARAMETERS = Table(
    "prumux_trial_hyperparameters",
    METADATA,
    *_of_trial(),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("is_own", Boolean, nullable=False),
    PrimaryKeyConstraint("study_id", "number", "name"),
)

MEASUREMENTS = Table(
    "prumux_measurements",
    METADATA,
    *_of_trial(),
    Column("accuracy", Double, nullable=False),
    Column("accuracy_std", Double, nullable=False),
    Column("num_examples", Integer, nullable=False),
    Column("num_compositions", Integer, nullable=False),
    Column("correctness", LargeBinary, nullable=False),
    Column("sparsity", Double, nullable=False),
    Column("hidden_size", Integer, nullable=False),
    Column("head_counts", Text, nullable=False),
    Column("feedforward_sizes", Text, nullable=False),
    Column("num_encoder_parameters", BigInteger, nullable=False),
    Column("num_parameters", BigInteger, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("finished_at", Text, nullable=False),
    PrimaryKeyConstraint("study_id", "number"),
)

THROUGHPUTS = Table(
    "prumux_throughputs",
    METADATA,
    *_of_trial(),
    Column("position", Integer, nullable=False),  # 0 is the trial's own measurement
    Column("throughput", Double, nullable=False),
    Column("throughput_q1", Double, nullable=False),
    Column("throughput_q3", Double, nullable=False),
    Column("baseline_throughput", Double, nullable=False),
    Column("speedup", Double, nullable=False),
    Column("speedup_q1", Double, nullable=False),
    Column("speedup_q3", Double, nullable=False),
    Column("num_repeats", Integer, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("num_threads", Integer, nullable=False),
    Column("profile", ForeignKey("prumux_profiles.name")),  # none: the trial's own measurement
    Column("baseline_spread", Double),
    Column("is_clean", Boolean),
    PrimaryKeyConstraint("study_id", "number", "position"),
)

PHASES = Table(
    "prumux_phases",
    METADATA,
    *_of_trial(),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("num_updates", Integer, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("memory_mib", Double, nullable=False),
    Column("is_cached", Boolean, nullable=False),
    PrimaryKeyConstraint("study_id", "number", "position"),
)

PHASE_HISTORY = Table(
    "prumux_phase_history",
    METADATA,
    Column("study_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("phase_position", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("step", Integer, nullable=False),
    PrimaryKeyConstraint("study_id", "number", "phase_position", "position"),
    ForeignKeyConstraint(
        ["study_id", "number", "phase_position"],
        [PHASES.c.study_id, PHASES.c.number, PHASES.c.position],
    ),
)

ENVIRONMENTS = Table(
    "prumux_environments",
    METADATA,
    *_of_trial(),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("study_id", "number", "name"),
)

FAILURE_CAUSES = Table(
    "prumux_failure_causes",
    METADATA,
    *_of_trial(),
    Column("cause", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("last_accuracy", Double),
    Column("finished_at", Text, nullable=False),
    Column("reachable_accuracy", Double),  # last, where the migration adds it
    PrimaryKeyConstraint("study_id", "number"),
)

PROFILES = Table(
    "prumux_profiles",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("processor", Text, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("num_threads", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
)

CALIBRATIONS = Table(
    "prumux_calibrations",
    METADATA,
    Column("calibration_id", Integer, primary_key=True),
    Column("profile", ForeignKey(PROFILES.c.name), nullable=False),
    Column("encoder_json", Text, nullable=False),
    Column("coefficients_json", Text, nullable=False),
    Column("log_std", Double, nullable=False),
    Column("baseline_throughput", Double, nullable=False),
    Column("num_repeats", Integer, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("created_at", Text, nullable=False),
)

CALIBRATION_TIMINGS = Table(
    "prumux_calibration_timings",
    METADATA,
    Column("calibration_id", ForeignKey(CALIBRATIONS.c.calibration_id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("num_instances", Integer, nullable=False),
    Column("hidden_size", Integer, nullable=False),
    Column("head_counts", Text, nullable=False),
    Column("feedforward_sizes", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("seconds_q1", Double, nullable=False),
    Column("seconds_q3", Double, nullable=False),
    Column("share", Double, nullable=False),
    PrimaryKeyConstraint("calibration_id", "position"),
)
