"""What `thinksmith fit` answers, for people and for programs."""
