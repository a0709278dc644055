"""Tasks, their examples and how sequences form groups."""
