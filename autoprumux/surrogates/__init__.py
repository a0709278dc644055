"""Predictors of accuracy and throughput: candidate to mean and standard deviation."""
