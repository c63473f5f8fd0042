"""What a person sees while something runs: a live line on a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_SECONDS = 10.0
PLAIN_WIDTH = 120


class Display:
    """Progress of one activity, to be used as a context manager."""

    def __init__(self, title, total, unit="steps"):
        """title: what runs. total: of `unit`."""
        # In a log file nothing should be folded to the width of a terminal that is not there.
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        self._title, self._total, self._unit = title, total, unit
        self._live = self.console.is_terminal
        self._start = time.monotonic()
        self._last_plain = self._start
        self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self._live,
        )
        self._task = self._progress.add_task(title, total=total, text="")

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *exception):
        self._progress.stop()

    def say(self, text):
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def update(self, done, text=""):
        """`done` of the total are done; text: figures to show beside it."""
        self._done = done
        self._progress.update(self._task, completed=done, text=text)
        now = time.monotonic()
        if not self._live and (now - self._last_plain >= PLAIN_EVERY_SECONDS or done >= self._total):
            self._last_plain = now
            left = (now - self._start) * (self._total - done) / max(done, 1)
            self.say(f"{self._title}: {done:,}/{self._total:,} {self._unit}  {text}  {_clock(left)} left".replace("    ", "  "))

    def advance(self):
        """One more of the total is done."""
        self.update(self._done + 1)


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
