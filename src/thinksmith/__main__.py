"""`python -m thinksmith` is the same as `thinksmith`."""

import sys

from thinksmith.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
