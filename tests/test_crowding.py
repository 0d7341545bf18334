"""A run that is slowed by others says so once, and a run that is not says nothing. The clocks are made up."""

from __future__ import annotations

import pytest

from dlcli.crowding import WINDOW, Crowding, load_average


class Machine:
    """Clocks that go when the test says so: the run gets ``share`` of the time of each of its threads."""

    def __init__(self, *, threads: int, processors: int, load: float, share: float):
        self.now = self.cpu = 0.0
        self.threads, self.share = threads, share
        self.crowding = Crowding(
            *(threads, processors), wall=lambda: self.now, used=lambda: self.cpu, load=lambda: load
        )

    def looks(self, seconds: float, every: float = 1.0) -> list[str]:
        """What is said in the next ``seconds``."""
        said = []
        for _ in range(round(seconds / every) + 1):
            said.append(self.crowding.look())
            self.now += every
            self.cpu += every * self.threads * self.share
        return [line for line in said if line is not None]


def test_a_slowed_run_says_so_once_with_the_remedy() -> None:
    machine = Machine(threads=2, processors=2, load=8.0, share=0.25)
    assert machine.looks(WINDOW - 1) == [], "a moment is no reason to speak"
    (line,) = machine.looks(100 * WINDOW)
    assert line == (
        "slowed by other processes: 8 threads want 2 processors, and this run gets 25% of the time of its 2; "
        "run fewer at a time, or give each fewer threads (OMP_NUM_THREADS=…)"
    )


def test_more_threads_than_processors_are_not_expected_to_run_at_once() -> None:
    assert Machine(threads=8, processors=2, load=8.0, share=0.25).looks(3 * WINDOW) == []


@pytest.mark.parametrize(
    ("load", "share"), [(8.0, 0.9), (1.0, 0.25), (2.4, 0.5)], ids=["gets its share", "waits for a disk", "nearly full"]
)
def test_a_run_that_is_not_slowed_by_others_says_nothing(load: float, share: float) -> None:
    assert Machine(threads=2, processors=2, load=load, share=share).looks(20 * WINDOW) == []


def test_the_window_begins_anew_so_that_a_slow_start_is_forgotten() -> None:
    machine = Machine(threads=1, processors=2, load=1.0, share=0.1)
    assert machine.looks(3 * WINDOW) == []
    machine.share = 1.0
    machine.crowding.load = lambda: 9.0
    assert machine.looks(10 * WINDOW) == []
    assert not machine.crowding.said


def test_the_load_average_is_a_number() -> None:
    assert load_average() >= 0.0
