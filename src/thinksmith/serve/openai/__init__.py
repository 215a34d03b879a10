"""OpenAI's dialects: chat completions, completions, responses."""
