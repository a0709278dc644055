"""Predictions of the surrogates against what a study measured."""
