"""`python -m disa` is the command `disa`."""

from disa.interfaces.cli import main

if __name__ == "__main__":
    main()
