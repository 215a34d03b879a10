"""How many bytes weights and caches take in each format."""
