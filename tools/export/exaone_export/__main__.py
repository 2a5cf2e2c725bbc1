"""Lets `python -m exaone_export` start the command line."""

import sys

from .cli import main

sys.exit(main())
