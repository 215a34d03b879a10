"""Several evaluations on the same problems, paired."""
