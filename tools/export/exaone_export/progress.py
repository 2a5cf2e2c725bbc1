"""Shows how far an export is: a bar on a terminal, a few plain lines in a pipe."""

import shutil
import sys
import time
from typing import TextIO

BAR_WIDTH = 20
REDRAW_S = 0.1
GIB = 1 << 30


class Progress:
    """Counts bytes towards a known total; `total` in bytes."""

    def __init__(self, total: int, stream: TextIO | None = None):
        self._total = max(total, 1)
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._done = 0
        self._started = time.monotonic()
        self._drawn = 0.0
        self._tenth = 0

    def advance(self, label: str, count: int) -> None:
        """`count` more bytes are written; `label` says which part of the model they belong to."""
        self._done += count
        if self._bar:
            self._draw(label)
        elif self._done * 10 // self._total > self._tenth:
            self._tenth = self._done * 10 // self._total
            print(self._line(label), file=self._stream, flush=True)

    def finish(self) -> None:
        """Leaves the bar's last state on the terminal."""
        if self._bar:
            self._drawn = 0.0
            self._draw("done")
            print(file=self._stream, flush=True)

    def _draw(self, label: str) -> None:
        now = time.monotonic()
        if now - self._drawn >= REDRAW_S:
            self._drawn = now
            filled = min(BAR_WIDTH, BAR_WIDTH * self._done // self._total)
            bar = "█" * filled + "░" * (BAR_WIDTH - filled)
            # A line that wraps could not be drawn over.
            line = f"{bar} {self._line(label)}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[2K{line}", end="", file=self._stream, flush=True)

    def _line(self, label: str) -> str:
        elapsed = time.monotonic() - self._started
        left = elapsed * (self._total - self._done) / max(self._done, 1)
        share = 100 * self._done // self._total
        return f"{share:3d} %  {label:<12} {self._done / GIB:.2f} of {self._total / GIB:.2f} GiB  {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
