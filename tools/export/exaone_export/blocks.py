"""The building blocks of decoder graphs: embedding, linear layer, norms, attention, gated MLP, output head."""

import numpy as np
from onnx import TensorProto

from .graph import CONTRIB, Graph
from .rope import rope_tables
from .weights import Part, Stored

# Integer dot products on activations rounded to 8 bits: fast, and a row has the same bits alone and in a batch, which the
# default level (0) does not give.
ACCURACY_LEVEL = 4
# Places among the inputs of GroupQueryAttention.
GQA_HEAD_NORMS_AT = 14


class DecoderInputs:
    """The inputs that every decoder graph has, declared on construction."""

    def __init__(self, graph: Graph):
        shape = graph.shape
        self.input_ids = graph.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
        self.seqlens_k = graph.input("seqlens_k", TensorProto.INT32, ["batch"])
        self.total_sequence_length = graph.input("total_sequence_length", TensorProto.INT32, [])
        self.logits_idx = graph.input("logits_idx", TensorProto.INT64, ["wanted_rows"])
        cache = ["batch", shape.kv_heads, "max_length", shape.head_dim]
        for layer in range(shape.layers):
            for side in ("key", "value"):
                graph.input(f"past_key_values.{layer}.{side}", graph.float_type, cache)


class Rope:
    """The rotation tables as initializers, shared by all layers."""

    def __init__(self, graph: Graph):
        cos, sin = (table.astype(graph.layout.numerics.float_type) for table in rope_tables(graph.shape))
        self.cos = graph.stored("rope.cos", graph.float_type, cos.shape, graph.layout.constant(cos))
        self.sin = graph.stored("rope.sin", graph.float_type, sin.shape, graph.layout.constant(sin))


def embedding(graph: Graph, ids: str, part: Part) -> str:
    """Rows of the embedding matrix for `ids`: [batch, sequence, hidden]."""
    stored = graph.layout.matrix("embedding", (part,))
    rows, columns = part.shape
    if stored.scales is None:
        table = graph.stored(part.name, graph.float_type, part.shape, stored.data)
        return graph.node("Gather", [table, ids], ["embedded"], axis=0)
    numerics = graph.layout.numerics
    packed = (rows, columns * numerics.bits // 8)
    table = graph.stored(f"{part.name}.rows", TensorProto.UINT8, packed, stored.data)
    return graph.node(
        "GatherBlockQuantized",
        [table, ids, _scales(graph, part.name, rows, columns, stored)],
        ["embedded"],
        domain=CONTRIB,
        bits=numerics.bits,
        block_size=numerics.block_size,
        gather_axis=0,
        quantize_axis=1,
    )


def linear(graph: Graph, x: str, name: str, label: str, parts: tuple[Part, ...]) -> str:
    """x · Wᵀ, W being `parts` stacked by rows: one product gives what several tensors of the checkpoint would."""
    stored = graph.layout.matrix(label, parts)
    rows, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
    weight = parts[0].name if len(parts) == 1 else f"{name}.weight"
    if stored.scales is None:
        # FusedMatMul takes W as the checkpoint has it, [out, in], so that a tied head needs no transposed copy.
        matrix = graph.stored(weight, graph.float_type, (rows, columns), stored.data)
        return graph.node("FusedMatMul", [x, matrix], [name], domain=CONTRIB, transB=1)
    numerics = graph.layout.numerics
    blocks = (rows, columns // numerics.block_size, numerics.block_size * numerics.bits // 8)
    return graph.node(
        "MatMulNBits",
        [x, graph.stored(f"{weight}.blocks", TensorProto.UINT8, blocks, stored.data), _scales(graph, weight, rows, columns, stored)],
        [name],
        domain=CONTRIB,
        N=rows,
        K=columns,
        bits=numerics.bits,
        block_size=numerics.block_size,
        accuracy_level=ACCURACY_LEVEL,
    )


def rms_norm(graph: Graph, x: str, name: str, label: str, part: Part) -> str:
    """RMS norm of `x`."""
    return graph.node(
        "SimplifiedLayerNormalization", [x, _norm_weight(graph, label, part)], [name], axis=-1, epsilon=graph.shape.norm_epsilon
    )


def add_rms_norm(graph: Graph, x: str, residual: str, name: str, label: str, part: Part) -> tuple[str, str]:
    """(norm of the sum, the sum): the sum is the residual stream that goes on."""
    outputs = [name, "", "", f"{name}.residual"]
    graph.node(
        "SkipSimplifiedLayerNormalization",
        [x, residual, _norm_weight(graph, label, part)],
        outputs,
        domain=CONTRIB,
        epsilon=graph.shape.norm_epsilon,
    )
    return outputs[0], outputs[3]


def add(graph: Graph, x: str, y: str, name: str) -> str:
    """The residual sum of blocks whose norm stands behind them."""
    return graph.node("Add", [x, y], [name])


def attention(
    graph: Graph,
    qkv: str,
    layer: int,
    inputs: DecoderInputs,
    rope: Rope | None,
    window: int | None = None,
    head_norms: tuple[Part, Part] | None = None,
) -> str:
    """Grouped-query attention over the slot's cache; `present.*` is meant to be bound to the memory of `past_key_values.*`.

    Without `rope` positions are not rotated; a `window` lets a token see itself and the `window - 1` before it; `head_norms`
    norm the heads of queries and keys before they are rotated.
    """
    shape = graph.shape
    cache = ["batch", shape.kv_heads, "max_length", shape.head_dim]
    present = [graph.output(f"present.{layer}.{side}", graph.float_type, cache) for side in ("key", "value")]
    past = [f"past_key_values.{layer}.{side}" for side in ("key", "value")]
    inputs_used = [qkv, "", "", *past, inputs.seqlens_k, inputs.total_sequence_length, *((rope.cos, rope.sin) if rope else ("", ""))]
    options = {}
    if window is not None:
        options["local_window_size"] = window
    if head_norms is not None:
        weights = [_norm_weight(graph, f"layer {layer + 1}", part) for part in head_norms]
        inputs_used += [""] * (GQA_HEAD_NORMS_AT - len(inputs_used)) + weights
        options["qk_norm_epsilon"] = shape.norm_epsilon
    return graph.node(
        "GroupQueryAttention",
        inputs_used,
        [f"layer.{layer}.attention", *present],
        domain=CONTRIB,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.head_dim**-0.5,
        do_rotary=int(rope is not None),
        rotary_interleaved=0,
        **options,
    )


def gated_mlp(graph: Graph, x: str, layer: int, gate: Part, up: Part, down: Part) -> str:
    """down(silu(gate(x)) · up(x))."""
    name, label = f"layer.{layer}.mlp", f"layer {layer + 1}"
    gated = linear(graph, x, f"{name}.gate", label, (gate,))
    raised = linear(graph, x, f"{name}.up", label, (up,))
    sigmoid = graph.node("Sigmoid", [gated], [f"{name}.sigmoid"])
    silu = graph.node("Mul", [gated, sigmoid], [f"{name}.silu"])
    product = graph.node("Mul", [silu, raised], [f"{name}.product"])
    return linear(graph, product, f"{name}.down", label, (down,))


def output_head(graph: Graph, x: str, inputs: DecoderInputs, part: Part) -> str:
    """float32 logits of the rows that `logits_idx` names: the other rows never meet the vocabulary."""
    rows = graph.constant("flat_rows", np.array([-1, graph.shape.hidden], np.int64))
    flat = graph.node("Reshape", [x, rows], ["flat_hidden"])
    wanted = graph.node("Gather", [flat, inputs.logits_idx], ["wanted_hidden"], axis=0)
    logits = graph.output("logits", TensorProto.FLOAT, ["wanted_rows", graph.shape.vocab])
    if graph.float_type == TensorProto.FLOAT:
        return linear(graph, wanted, logits, "output head", (part,))
    return graph.node("Cast", [linear(graph, wanted, "half_logits", "output head", (part,))], [logits], to=TensorProto.FLOAT)


def _scales(graph: Graph, weight: str, rows: int, columns: int, stored: Stored) -> str:
    blocks = (rows, columns // graph.layout.numerics.block_size)
    return graph.stored(f"{weight}.scales", graph.float_type, blocks, stored.scales)


def _norm_weight(graph: Graph, label: str, part: Part) -> str:
    return graph.stored(part.name, graph.float_type, part.shape, graph.layout.vector(label, part).data)
