"""`python -m launcher`, and the `launcher` script."""

import sys

from launcher import cli


def main() -> None:
    """Run one verb and exit with its code."""
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
