"""The page at `/`: a conversation in a browser, over the API that every client has. No build step, no script inline."""
