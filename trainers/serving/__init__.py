"""Models in service: exported and predicting."""
