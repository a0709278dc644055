"""Sentence templates of the built-in data, one file per task."""
