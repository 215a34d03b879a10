"""HTTP: OpenAI's and Ollama's dialects over any engine and any strategy."""
