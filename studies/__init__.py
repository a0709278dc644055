"""Presets: one TOML file each, no code."""
