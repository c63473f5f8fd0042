"""Progress that a person sees: a live line on a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from qi_ext.utils.output import as_lasting, printable

PLAIN_EVERY_SECONDS = 10.0
PLAIN_WIDTH = 120
WIDE = 110  # columns that a bar and counts need beside the figures


class _Progress(Progress):
    """A bar, and a line of details under it."""

    details = ""

    def get_renderables(self):
        yield from super().get_renderables()
        if self.details:
            yield Text(self.details, style="dim")


def make_console():
    """A console on standard output; in a log file nothing is folded to the width of a terminal that is not there."""
    # Not what a live line puts in place of standard output, which would print above the line what belongs to it.
    stream = as_lasting(getattr(sys.stdout, "rich_proxied_file", sys.stdout))
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def say(text, console=None):
    """Print a line that stays; control characters, as names of files may have, are escaped."""
    (console or make_console()).print(printable(text), markup=False, soft_wrap=True)


class Display:
    """Progress of one activity, to be used as a context manager."""

    def __init__(self, title, total, unit="steps", done=0):
        """title: what runs. total: of `unit`. done: of those, before."""
        self.console = make_console()
        self._title, self._total, self._unit = title, total, unit
        self._live = self.console.is_terminal
        self._start = self._before = None
        self._last_plain = time.monotonic()
        self._done = done
        bar = [BarColumn(bar_width=24), MofNCompleteColumn()] if self.console.width >= WIDE else [TaskProgressColumn()]
        self._progress = _Progress(
            TextColumn("{task.description}"),
            *bar,
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            disable=not self._live,
        )
        self._task = self._progress.add_task(title, total=total, completed=done, text="")

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *exception):
        self._progress.stop()

    def say(self, text):
        """Print a line that stays, above the progress."""
        say(text, self.console)

    def update(self, done, text="", details=""):
        """Show that `done` of the total are done. text: figures beside it. details: more of them, in a line of their own."""
        self._done = done
        self._progress.details = details
        self._progress.update(self._task, completed=done, text=text)
        now = time.monotonic()
        if self._start is None:
            # Until then things were set up, which happens once: a pool, or what pictures are drawn with.
            self._start, self._before = now, done
        if not self._live and (now - self._last_plain >= PLAIN_EVERY_SECONDS or done >= self._total):
            self._last_plain = now
            parts = [f"{self._title}: {done:,}/{self._total:,} {self._unit}", text]
            if done > self._before or done >= self._total:
                left = (now - self._start) * (self._total - done) / max(done - self._before, 1)
                parts.append(f"{_clock(left)} left")
            self.say("  ".join(part for part in parts if part))
            if details:
                self.say(f"  {details}")

    def advance(self, n=1):
        """Show that `n` more are done."""
        self.update(self._done + n)


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
