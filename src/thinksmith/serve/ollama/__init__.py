"""Ollama's dialect: chat, generate, and what there is."""
