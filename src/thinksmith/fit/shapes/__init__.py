"""What of a model decides its memory and speed: tensors and caches, by its config."""
