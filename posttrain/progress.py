"""How often a progress bar shows itself: at once on a terminal, rarely in a log."""

import sys

IN_A_LOG = 30.0


def seconds_between() -> float:
    """Between two of a bar's states: the log of a container keeps each as a line of its own."""
    return 0.1 if sys.stderr.isatty() else IN_A_LOG
