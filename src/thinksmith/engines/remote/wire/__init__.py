"""HTTP to one endpoint: what it says comes as events, what goes wrong as one line."""
