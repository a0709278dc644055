"""Everything that asks and tells Optuna."""
