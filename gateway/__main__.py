"""Entry of `unisono` and `python -m gateway`. Imports inside main(): spawned ranks import this."""

import os
import signal
import sys


def main() -> int:
    """Run the command line and return its exit status."""
    from gateway import cli

    try:
        status = cli.main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does; what is still buffered has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


if __name__ == "__main__":
    sys.exit(main())
