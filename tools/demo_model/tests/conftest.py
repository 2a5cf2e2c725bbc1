"""Lets the tests import the package beside them, and the exporter."""

import pathlib
import sys

TOOLS = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOOLS / "demo_model"), str(TOOLS / "export")]
