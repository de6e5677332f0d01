"""Entry of `unisono` and `python -m gateway`. Imports inside main(): spawned ranks import this."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    from gateway import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
