"""Measures the query tile of the CPU attention kernel, which decides where a prompt may be cut without changing bits."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from .graph import CONTRIB, IR_VERSION, OPSET
from .shape import ModelShape


def query_tile(shape: ModelShape) -> int | None:
    """T such that a prefill chunk of S rows keeps its bits unless S mod T is 1 (S = 1 included), in tokens.

    The kernel takes the rows of a chunk in tiles of at most `largest_tile`; a last tile of a single row goes another way
    through the matrix library and rounds otherwise. The first chunk length S > 1 at which the last row's bits change is
    T + 1. None when bits depend on chunk lengths in some other way.
    """
    largest = largest_tile(shape)
    attend = _Attention(shape, 2 * largest + 2)
    changing = next((rows for rows in range(3, largest + 2) if attend.last_row_changes(rows)), None)
    if changing is None:
        return largest  # this processor rounds a single row like any other: no chunking matters
    tile = changing - 1
    regular = not attend.last_row_changes(2 * tile) and attend.last_row_changes(2 * tile + 1)
    return tile if regular else None


def largest_tile(shape: ModelShape) -> int:
    """The tile that the kernel takes where the processor's second-level cache allows it, in tokens."""
    return 2 * shape.head_dim


class _Attention:
    """One random attention layer with the model's head shapes, and its output for a prompt in one shot."""

    def __init__(self, shape: ModelShape, tokens: int):
        self._cache = np.zeros((1, shape.kv_heads, tokens, shape.head_dim), np.float32)
        self._session = _session(shape, tokens)
        width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        self._qkv = np.random.default_rng(0).standard_normal((1, tokens, width), np.float32)
        self._whole = self._run(tokens)

    def last_row_changes(self, rows: int) -> bool:
        """Whether row `rows - 1` differs between a chunk that ends with it and the whole prompt."""
        return not np.array_equal(self._run(rows)[0, -1], self._whole[0, rows - 1])

    def _run(self, rows: int) -> np.ndarray:
        inputs = {
            "qkv": self._qkv[:, :rows],
            "key": self._cache,
            "value": self._cache,
            "seqlens_k": np.array([rows - 1], np.int32),
            "total": np.array(rows, np.int32),
        }
        return self._session.run(["attention"], inputs)[0]


def _session(shape: ModelShape, tokens: int) -> onnxruntime.InferenceSession:
    node = helper.make_node(
        "GroupQueryAttention",
        ["qkv", "", "", "key", "value", "seqlens_k", "total"],
        ["attention", "present_key", "present_value"],
        domain=CONTRIB,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.head_dim**-0.5,
    )
    cache = [1, shape.kv_heads, tokens, shape.head_dim]
    inputs = {"qkv": [1, "rows", (shape.heads + 2 * shape.kv_heads) * shape.head_dim], "key": cache, "value": cache}
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    lengths = [
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [1]),
        helper.make_tensor_value_info("total", TensorProto.INT32, []),
    ]
    output = helper.make_tensor_value_info("attention", TensorProto.FLOAT, [1, "rows", shape.heads * shape.head_dim])
    graph = helper.make_graph([node], "probe", floats + lengths, [output])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
