"""What this machine has, what of it does not work, and the line that mends it: what `thinksmith doctor` tells.

Each file looks at one thing and returns findings; `examine.py` puts them together. Looking changes nothing: no file is
made, no model loaded, and nobody outside this machine is asked.
"""
