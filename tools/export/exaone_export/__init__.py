"""Exports EXAONE checkpoints to the ONNX graph that interviewd runs, one tensor at a time."""

__version__ = "0.1.0"
