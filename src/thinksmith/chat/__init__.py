"""Conversations in the terminal:

`session.py` is one, `lanes.py` asks several models at once, `words.py` is what is typed and shown.
"""
