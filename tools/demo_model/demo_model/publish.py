"""Exports a trained checkpoint into models/demo, by the exporter that EXAONE goes through."""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

from .tokenizer import FOLDER

LICENCE = "Apache-2.0, like the rest of the repository. A demo trained on synthetic interviews: not a judge of people."
SHARED = ["tokenizer.json", "chat_template.jinja"]  # the demo folder has them before it has a model


def export(checkpoint, out, precision):
    """Runs `python -m exaone_export` on the checkpoint together with the demo's tokenizer and chat template."""
    for name in SHARED:
        shutil.copy(FOLDER / name, checkpoint / name)
    command = [sys.executable, "-m", "exaone_export", str(checkpoint), str(out), "--precision", precision, "--target", "cpu"]
    command += ["--name", "interviewd-demo", "--demo", "--licence-note", LICENCE, "--verify"]
    subprocess.run(command, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=pathlib.Path, help="folder written by demo_model.train")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--out", type=pathlib.Path, help="write another folder instead of models/demo")
    args = parser.parse_args()
    if args.out:
        return export(args.checkpoint, args.out, args.precision)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "demo"
        export(args.checkpoint, out, args.precision)
        for path in out.iterdir():
            shutil.copy(path, FOLDER / path.name)


if __name__ == "__main__":
    main()
