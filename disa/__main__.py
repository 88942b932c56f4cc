"""The command `disa`, also as `python -m disa`."""

import signal
import sys


def main() -> int:
    """Run a command and return its exit code; Ctrl-C is answered from the first moment."""
    try:
        # This import takes half a second.
        from disa.interfaces import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130
    finally:
        # All is said and done: now it may end the process without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
