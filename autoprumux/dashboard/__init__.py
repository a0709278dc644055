"""What a study shows in optuna-dashboard: notes, plots, files, feasibility, and its server."""
