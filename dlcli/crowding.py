"""Too many threads for the processors: a run notices that it waits for others, and says so once. Imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

WINDOW = 10.0  # seconds over which the time that the run got is measured
SHARE = 0.7  # of the time of its threads: a run that gets more is not slowed
CROWDED = 1.25  # runnable threads per processor


def load_average() -> float:
    """Threads of the whole machine that ran or waited for a processor, mean of a minute; 0 where nobody counts them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


class Crowding:
    """Asked now and then, such as at every log; ``look`` answers once at most.

    Low use alone may be waiting for a disk or work that is not parallel, and a high load alone may leave this run its
    share (of another priority, or bound to processors of its own): only both together are a reason to speak.

    Args:
        threads: with which the run computes.
        processors: of the whole machine, as the load average counts.
        wall, used, load: the clock, the processor time of this process, and the load average.
    """

    def __init__(
        self,
        threads: int,
        processors: int,
        *,
        wall: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
        load: Callable[[], float] = load_average,
    ):
        self.threads = threads
        self.processors = processors
        self.wall, self.used, self.load = wall, used, load
        self.since: tuple[float, float] | None = None  # wall clock and processor time when the window began
        self.said = False

    def look(self) -> str | None:
        """A line for the person, with the remedy, the first time that the run is found to be slowed; else None."""
        if self.said:
            return None
        now = self.wall(), self.used()
        if self.since is None:
            self.since = now
        seconds = now[0] - self.since[0]
        if seconds < WINDOW:
            return None
        share = (now[1] - self.since[1]) / (seconds * min(self.threads, self.processors))
        self.since = now
        load = self.load()
        if share >= SHARE or load <= CROWDED * self.processors:
            return None
        self.said = True
        return (
            f"slowed by other processes: {load:.0f} threads want {self.processors} processors, and this run gets "
            f"{share:.0%} of the time of its {self.threads}; run fewer at a time, or give each fewer threads "
            "(OMP_NUM_THREADS=…)"
        )
