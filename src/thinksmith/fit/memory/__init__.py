"""What takes memory, of an engine that serves and of a trainer."""
