"""SQL views that decode our tables for people who read the database with plain SQL.

Portable between SQLite and PostgreSQL. They read our tables only, so they work before Optuna has
made its own. The state of a trial follows from our tables: a measurement means complete, a
failure means failed, neither means running.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUDGET_TOLERANCE = 1e-9
"""Slack on accuracy losses, a fraction: 0.91 - 0.90 is 0.010000000000000009 in binary."""


def _points(fraction: str) -> str:
    """Yield SQL for a fraction in percentage points, without the noise of binary numbers."""
    return f"CAST(ROUND(CAST(100.0 * ({fraction}) AS NUMERIC), 9) AS DOUBLE PRECISION)"


_TRIALS = f"""
WITH base AS (
  SELECT s.study_id, m.accuracy
  FROM prumux_starts s
  JOIN prumux_measurements m ON m.study_id = s.study_id AND m.number = s.number
  WHERE s.number = (
    SELECT MAX(s2.number)
    FROM prumux_starts s2
    JOIN prumux_measurements m2 ON m2.study_id = s2.study_id AND m2.number = s2.number
    WHERE s2.study_id = s.study_id AND s2.num_instances = 1 AND s2.sparsity = 0
      AND s2.hyperparameters = '{{}}'
  )
)
SELECT
  st.name AS study,
  s.number AS number,
  s.num_instances AS num_instances,
  s.sparsity AS sparsity,
  m.sparsity AS sparsity_achieved,
  m.accuracy AS accuracy,
  {_points("base.accuracy - m.accuracy")} AS accuracy_loss_points,
  t.throughput AS throughput,
  t.speedup AS speedup,
  CASE
    WHEN m.number IS NOT NULL THEN 'complete'
    WHEN f.number IS NOT NULL THEN 'failed'
    ELSE 'running'
  END AS state,
  m.duration_s AS duration_s,
  s.reason AS reason,
  (
    SELECT {_points("MIN(b.budget)")}
    FROM prumux_budgets b
    WHERE b.study_id = s.study_id
      AND base.accuracy - m.accuracy <= b.budget + {BUDGET_TOLERANCE!r}
  ) AS tightest_budget_points,
  m.accuracy_std AS accuracy_std,
  m.num_examples AS num_examples,
  t.speedup_q1 AS speedup_q1,
  t.speedup_q3 AS speedup_q3,
  t.baseline_throughput AS baseline_throughput,
  t.device AS device,
  t.dtype AS dtype,
  t.batch_size AS batch_size,
  t.length AS length,
  t.num_threads AS num_threads,
  m.num_parameters AS num_parameters,
  m.num_encoder_parameters AS num_encoder_parameters,
  m.hidden_size AS hidden_size,
  m.head_counts AS head_counts,
  m.feedforward_sizes AS feedforward_sizes,
  s.seed AS seed,
  f.cause AS failure_cause,
  st.task AS task,
  st.data_fingerprint AS data_fingerprint,
  s.started_at AS started_at,
  COALESCE(m.finished_at, f.finished_at) AS finished_at,
  m.checkpoint AS checkpoint,
  t.is_clean AS is_clean,
  (
    SELECT COUNT(*) FROM prumux_attempts a
    WHERE a.study_id = s.study_id AND a.number = s.number AND a.training_at IS NOT NULL
  ) AS num_attempts,
  s.hyperparameters AS hyperparameters
FROM prumux_starts s
JOIN prumux_studies st ON st.study_id = s.study_id
LEFT JOIN prumux_measurements m ON m.study_id = s.study_id AND m.number = s.number
LEFT JOIN prumux_throughputs t
  ON t.study_id = s.study_id AND t.number = s.number AND t.position = 0
LEFT JOIN prumux_failure_causes f ON f.study_id = s.study_id AND f.number = s.number
LEFT JOIN base ON base.study_id = s.study_id
"""

_FRONT = """
SELECT
  t.study, t.number, t.num_instances, t.sparsity, t.sparsity_achieved, t.accuracy,
  t.accuracy_loss_points, t.throughput, t.speedup, t.duration_s, t.device, t.task, t.checkpoint,
  t.hyperparameters
FROM prumux_trials t
WHERE t.state = 'complete' AND NOT EXISTS (
  SELECT 1
  FROM prumux_trials o
  WHERE o.study = t.study AND o.state = 'complete'
    AND o.accuracy >= t.accuracy AND o.speedup >= t.speedup
    AND (
      o.accuracy > t.accuracy OR o.speedup > t.speedup
      OR o.num_instances < t.num_instances
      OR (o.num_instances = t.num_instances AND o.sparsity < t.sparsity)
      OR (
        o.num_instances = t.num_instances AND o.sparsity = t.sparsity
        AND o.hyperparameters < t.hyperparameters
      )
    )
)
"""

_BEST_BY_BUDGET = f"""
SELECT
  r.study, r.budget_points, r.number, r.num_instances, r.sparsity, r.sparsity_achieved,
  r.accuracy, r.accuracy_loss_points, r.throughput, r.speedup, r.device, r.task, r.checkpoint,
  r.hyperparameters
FROM (
  SELECT
    st.name AS study,
    {_points("b.budget")} AS budget_points,
    t.number, t.num_instances, t.sparsity, t.sparsity_achieved, t.accuracy,
    t.accuracy_loss_points, t.throughput, t.speedup, t.device, st.task AS task, t.checkpoint,
    t.hyperparameters,
    ROW_NUMBER() OVER (
      PARTITION BY b.study_id, b.position
      ORDER BY
        t.speedup DESC, t.accuracy DESC, t.num_instances, t.sparsity, t.hyperparameters
    ) AS place
  FROM prumux_budgets b
  JOIN prumux_studies st ON st.study_id = b.study_id
  LEFT JOIN prumux_trials t
    ON t.study = st.name AND t.state = 'complete'
    AND t.accuracy_loss_points <= 100.0 * (b.budget + {BUDGET_TOLERANCE!r})
) r
WHERE r.place = 1
"""

_FAILURES = """
SELECT
  st.name AS study, s.number, s.num_instances, s.sparsity, f.cause, f.message, f.last_accuracy,
  f.reachable_accuracy, s.reason, s.seed, st.task AS task, s.started_at, f.finished_at,
  (
    SELECT COUNT(*) FROM prumux_attempts a
    WHERE a.study_id = s.study_id AND a.number = s.number AND a.training_at IS NOT NULL
  ) AS num_attempts,
  s.hyperparameters
FROM prumux_failure_causes f
JOIN prumux_starts s ON s.study_id = f.study_id AND s.number = f.number
JOIN prumux_studies st ON st.study_id = f.study_id
"""

_TRIES = """
SELECT
  st.name AS study, a.number, a.attempt, s.num_instances, s.sparsity, a.worker, a.remedy,
  CASE
    WHEN a.outcome IS NOT NULL THEN a.outcome
    WHEN m.number IS NOT NULL OR f.number IS NOT NULL THEN 'told'
    ELSE 'running'
  END AS outcome,
  a.cause, a.message, a.began_at, a.training_at, a.ended_at, s.hyperparameters
FROM prumux_attempts a
JOIN prumux_studies st ON st.study_id = a.study_id
LEFT JOIN prumux_starts s ON s.study_id = a.study_id AND s.number = a.number
LEFT JOIN prumux_measurements m ON m.study_id = a.study_id AND m.number = a.number
LEFT JOIN prumux_failure_causes f ON f.study_id = a.study_id AND f.number = a.number
"""

_CHOICES = """
SELECT
  st.name AS study, s.number, 0 AS place, s.num_instances, s.sparsity, s.chance,
  s.chance_best, s.expected_speedup, s.expected_gain, s.log_gain, s.predicted_minutes, s.score,
  s.reason, s.hyperparameters
FROM prumux_starts s
JOIN prumux_studies st ON st.study_id = s.study_id
UNION ALL
SELECT
  st.name, r.number, r.position, r.num_instances, r.sparsity, r.chance,
  r.chance_best, r.expected_speedup, r.expected_gain, r.log_gain, r.predicted_minutes, r.score,
  NULL, r.hyperparameters
FROM prumux_runners_up r
JOIN prumux_studies st ON st.study_id = r.study_id
"""

_PRIORS = """
SELECT
  st.name AS study, p.position AS place, o.name AS prior, COUNT(*) AS num_trials,
  st.prior_at AS chosen_at
FROM prumux_prior_trials p
JOIN prumux_studies st ON st.study_id = p.study_id
JOIN prumux_studies o ON o.study_id = p.prior_id
GROUP BY st.name, p.position, o.name, st.prior_at
"""

_ENVIRONMENT = """
SELECT st.name AS study, e.number, e.name, e.value
FROM prumux_environments e
JOIN prumux_studies st ON st.study_id = e.study_id
"""

_HYPERPARAMETERS = """
SELECT
  st.name AS study, h.number, s.num_instances, s.sparsity, h.name, h.value, h.is_own
FROM prumux_trial_hyperparameters h
JOIN prumux_studies st ON st.study_id = h.study_id
JOIN prumux_starts s ON s.study_id = h.study_id AND s.number = h.number
"""

VIEWS = {
    "prumux_trials": _TRIALS,
    "prumux_front": _FRONT,
    "prumux_best_by_budget": _BEST_BY_BUDGET,
    "prumux_failures": _FAILURES,
    "prumux_tries": _TRIES,
    "prumux_choices": _CHOICES,
    "prumux_priors": _PRIORS,
    "prumux_environment": _ENVIRONMENT,
    "prumux_hyperparameters": _HYPERPARAMETERS,
}
"""Bodies by name; a view reads only tables and the views before it."""


def views_hash() -> str:
    """Yield the hash that the database keeps, to see whether its views are these."""
    return hashlib.sha256("".join(VIEWS.values()).encode()).hexdigest()[:16]


def has_views(connection: "Connection") -> bool:
    """Yield whether every view exists, whatever its text."""
    from sqlalchemy import inspect

    return set(VIEWS) <= set(inspect(connection).get_view_names())


def create_views(connection: "Connection") -> None:
    """Make the views anew inside the transaction of `connection`."""
    for name in reversed(VIEWS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
    for name, body in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {body.strip()}")
