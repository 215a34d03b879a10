"""Traces of one teacher or several, verified and stored as they come: what is wanted (`goal.py`), which draw is asked
next (`agenda.py`), who is asked (`teachers.py`), what it cost (`ledger.py`), and the run itself (`collect.py`)."""
