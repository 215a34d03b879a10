"""From many traces to the set that a student learns from: a funnel in which each dropped trace keeps its reason."""
