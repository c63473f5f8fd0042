"""Training: configuration, the loop, the run directory and what is logged."""
