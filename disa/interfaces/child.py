"""`python -m disa.interfaces.child COMMAND ...`: `disa COMMAND ...` that saves and leaves when its parent dies.

The parent holds the other end of standard input, which closes with it, however it ends.
"""

import os
import signal
from threading import Thread

from disa.interfaces.cli import main


def _leave_with_the_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    Thread(target=_leave_with_the_parent, daemon=True).start()
    main()
