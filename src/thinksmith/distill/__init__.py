"""From a teacher's traces to a set that a student learns from: collect, curate, and the samples' formats."""
