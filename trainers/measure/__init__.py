"""Accuracy, throughput and the environment they were measured in."""
