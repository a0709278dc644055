"""One self-contained HTML page about a study, and its front as a picture for a paper."""
