"""`python -m disa` is the command `disa`."""

import sys

from disa.interfaces.cli import main

if __name__ == "__main__":
    sys.exit(main())
