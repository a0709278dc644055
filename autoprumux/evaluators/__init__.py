"""Evaluators: a candidate and a seed become a measurement."""
