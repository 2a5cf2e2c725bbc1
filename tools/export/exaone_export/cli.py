"""The command line of `python -m exaone_export`."""

import argparse
import signal
import sys
from pathlib import Path

from . import __version__
from .errors import ExportError
from .export import Request, export
from .numerics import KV_FORMATS, PRECISIONS, QUALITIES, TARGETS
from .presets import PRESETS


def main(arguments: list[str] | None = None) -> int:
    """Runs an export; 0 on success, 1 with a plain message when it cannot be done, 130 when interrupted."""
    request = _parse(arguments)
    return run_plainly(lambda: export(request))


def run_plainly(action) -> int:
    """Runs `action` and turns its failures into a line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that temporary folders go
    try:
        action()
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'while reading or writing'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str] | None) -> Request:
    parser = argparse.ArgumentParser(
        prog="python -m exaone_export",
        description="Exports an EXAONE checkpoint to the ONNX graph that interviewd runs, a few megabytes of weights at a time.",
    )
    parser.add_argument("checkpoint", nargs="?", type=Path, help="folder of a downloaded checkpoint (left out with --random)")
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--precision", choices=PRECISIONS, required=True, help="format of the weights")
    parser.add_argument("--target", choices=TARGETS, required=True, help="where the daemon will run it")
    parser.add_argument("--context", type=_positive, help="longest text in tokens (default: the model's own, at most 32768)")
    parser.add_argument("--block-size", type=_positive, default=32, help="weights that share a scale, int4 and int8 (default 32)")
    parser.add_argument("--quality", choices=QUALITIES, help="of int4: care, and 8-bit matrices (default balanced; fast for random weights)")
    parser.add_argument("--kv", choices=KV_FORMATS, default="full", help="format of keys and values: int8 needs --calibrate (default full)")
    parser.add_argument("--calibrate", type=Path, metavar="TEXT", help="text like that to be scored, on which --kv int8 measures its scales")
    parser.add_argument("--verify", action="store_true", help="compare with a numpy forward of the checkpoint")
    parser.add_argument("--force", action="store_true", help="replace an earlier export")
    parser.add_argument("--random", choices=PRESETS, metavar="PRESET", help=f"random weights instead of a checkpoint: {', '.join(PRESETS)}")
    parser.add_argument("--seed", type=int, default=0, help="seed of --random (default 0)")
    parser.add_argument("--name", help="name in model.json (default: the checkpoint folder's)")
    parser.add_argument("--licence-note", help="licence note in model.json")
    parser.add_argument("--demo", action="store_true", help="mark the export as a demo model")
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    if (options.checkpoint is None) == (options.random is None):
        parser.error("give either a checkpoint folder and an output folder, or --random PRESET and an output folder")
    if (options.kv == "int8") != (options.calibrate is not None):
        parser.error("--kv int8 and --calibrate TEXT go together")
    return Request(
        out=options.out.absolute(),
        precision=options.precision,
        target=options.target,
        checkpoint=options.checkpoint,
        random_preset=options.random,
        seed=options.seed,
        context=options.context,
        block_size=options.block_size,
        kv=options.kv,
        quality=options.quality,
        calibrate=options.calibrate,
        verify=options.verify,
        overwrite=options.force,
        name=options.name,
        licence_note=options.licence_note,
        demo=options.demo,
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
