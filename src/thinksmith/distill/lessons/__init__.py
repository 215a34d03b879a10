"""Lessons: a claim about training, tried on the embedded models in minutes. What is tried (`recipe.py`), how an arm is
trained (`arms.py`), the whole trial (`trial.py`), and its page (`page.py`)."""
