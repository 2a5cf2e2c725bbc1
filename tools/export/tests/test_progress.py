"""The progress bar says where the export is and fits a terminal of 80 columns."""

import io
import re

from exaone_export.progress import GIB, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_the_part_the_bytes_and_the_time_left_on_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("exaone_export.progress.time.monotonic", iter([0.0, 650.0, 650.0]).__next__)
    terminal = Terminal()
    progress = Progress(30 * GIB, terminal)
    progress.advance("output head", 15 * GIB)
    bar = re.split(r"\r\x1b\[2K", terminal.getvalue())[-1]
    assert len(bar) < 80
    for part in ("50 %", "output head", "15.00 of 30.00 GiB", "10 min 50 s left"):
        assert part in bar


def test_a_narrow_terminal_cuts_the_line_instead_of_wrapping_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    Progress(GIB, terminal).advance("transformer.h.29.attn.attention.q_proj", 1 << 20)
    assert len(terminal.getvalue().removeprefix("\r\x1b[2K")) < 40
