"""Inputs of strangers, made up: see docs/security.md."""
