"""What is wrong, gathered, so that one run tells everything."""

import sys

_found = []


def wrong(where, what):
    _found.append(f"{where}: {what}")


def end():
    """Prints what was found, and ends with 1 if that is anything."""
    for line in _found:
        print(f"deploy: {line}", file=sys.stderr)
    sys.exit(1 if _found else 0)
