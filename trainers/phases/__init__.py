"""The training phases and the one loop they share."""
