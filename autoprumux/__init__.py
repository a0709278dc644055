"""Search, performance models, storage and answers of Auto-PruMUX."""
