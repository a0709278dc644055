"""Exports of chosen models: which trial, what its card says, a directory that is there whole."""
