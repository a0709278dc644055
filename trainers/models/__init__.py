"""Multiplexed encoders, gates, compaction and checkpoints."""
