"""Does it fit? The largest that does, and what to change."""
