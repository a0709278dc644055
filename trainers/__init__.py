"""Train and measure one multiplexed and pruned encoder; usable without the search."""
