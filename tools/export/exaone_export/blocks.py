"""The building blocks of decoder graphs: embedding, linear layer, norms, attention, gated MLP, output head."""

import numpy as np
from onnx import TensorProto

from .graph import CONTRIB, Graph
from .kv_scales import scale_name
from .rope import rope_tables
from .weights import Part, Stored

# Integer dot products on activations rounded to 8 bits: fast, and a row has the same bits alone and in a batch, which the
# default level (0) does not give.
ACCURACY_LEVEL = 4
# Their place among the inputs of GroupQueryAttention.
GQA_KV_SCALES_AT = 12
KV_SCALES_EACH = "PER_CHANNEL"


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
                graph.input(f"past_key_values.{layer}.{side}", graph.kv_type, cache)


class Rope:
    """The rotation tables as initializers, shared by all layers."""

    def __init__(self, graph: Graph):
        cos, sin = (table.astype(graph.layout.numerics.float_type) for table in rope_tables(graph.shape))
        self.cos = graph.stored("rope.cos", graph.float_type, cos.shape, graph.layout.constant(cos))
        self.sin = graph.stored("rope.sin", graph.float_type, sin.shape, graph.layout.constant(sin))


def embedding(graph: Graph, ids: str, part: Part) -> str:
    """Rows of the embedding matrix for `ids`: [batch, sequence, hidden]."""
    numerics = graph.layout.numerics
    stored = graph.layout.matrix("embedding", (part,), numerics.head_bits if graph.shape.tied_head else numerics.bits)
    rows, columns = part.shape
    if stored.scales is None:
        table = graph.stored(part.name, graph.float_type, part.shape, stored.data)
        return graph.node("Gather", [table, ids], ["embedded"], axis=0)
    packed = (rows, columns * stored.bits // 8)
    table = graph.stored(f"{part.name}.rows", TensorProto.UINT8, packed, stored.data)
    return graph.node(
        "GatherBlockQuantized",
        [table, ids, _scales(graph, part.name, rows, columns, stored)],
        ["embedded"],
        domain=CONTRIB,
        bits=stored.bits,
        block_size=numerics.block_size,
        gather_axis=0,
        quantize_axis=1,
    )


def layer_bits(graph: Graph, layer: int) -> int | None:
    """Bits of a layer's matrices that mind rounding most."""
    return graph.layout.numerics.layer_bits(layer, graph.shape.layers)


def linear(graph: Graph, x: str, name: str, label: str, parts: tuple[Part, ...], bits: int | None = None) -> str:
    """x · Wᵀ, W being `parts` stacked by rows: one product gives what several tensors of the checkpoint would."""
    stored = graph.layout.matrix(label, parts, bits or graph.layout.numerics.bits)
    rows, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
    weight = parts[0].name if len(parts) == 1 else f"{name}.weight"
    if stored.scales is None:
        # FusedMatMul takes W as the checkpoint has it, [out, in], so that a tied head needs no transposed copy.
        matrix = graph.stored(weight, graph.float_type, (rows, columns), stored.data)
        return graph.node("FusedMatMul", [x, matrix], [name], domain=CONTRIB, transB=1)
    numerics = graph.layout.numerics
    blocks = (rows, columns // numerics.block_size, numerics.block_size * stored.bits // 8)
    return graph.node(
        "MatMulNBits",
        [x, graph.stored(f"{weight}.blocks", TensorProto.UINT8, blocks, stored.data), _scales(graph, weight, rows, columns, stored)],
        [name],
        domain=CONTRIB,
        N=rows,
        K=columns,
        bits=stored.bits,
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


def norm_heads(graph: Graph, qkv: str, layer: int, query: Part, key: Part) -> tuple[str, str, str]:
    """Queries, keys and values apart, and every head of the first two normed.

    The attention operator could norm them itself, but on a CPU it refuses to.
    """
    shape, name, label = graph.shape, f"layer.{layer}", f"layer {layer + 1}"
    sizes = np.array([shape.heads, shape.kv_heads, shape.kv_heads], np.int64) * shape.head_dim
    parts = [f"{name}.query", f"{name}.key", f"{name}.value"]
    graph.node("Split", [qkv, graph.constant("qkv_sizes", sizes)], parts, axis=-1)
    apart = graph.constant("heads_apart", np.array([0, 0, -1, shape.head_dim], np.int64))
    together = graph.constant("heads_together", np.array([0, 0, -1], np.int64))
    normed = []
    for side, part in zip(parts, (query, key)):
        heads = graph.node("Reshape", [side, apart], [f"{side}.heads"])
        heads = rms_norm(graph, heads, f"{side}.normed", label, part)
        normed.append(graph.node("Reshape", [heads, together], [f"{side}.whole"]))
    return normed[0], normed[1], parts[2]


def attention(
    graph: Graph, qkv: tuple[str, str, str], layer: int, inputs: DecoderInputs, rope: Rope | None, window: int | None = None
) -> str:
    """Grouped-query attention over the slot's cache; `present.*` is meant to be bound to the memory of `past_key_values.*`.

    `qkv` are queries, keys and values, or all of them packed into the first and the others empty. Without `rope` positions are
    not rotated; a `window` lets a token see itself and the `window - 1` before it.
    """
    shape = graph.shape
    cache = ["batch", shape.kv_heads, "max_length", shape.head_dim]
    present = [graph.output(f"present.{layer}.{side}", graph.kv_type, cache) for side in ("key", "value")]
    past = [f"past_key_values.{layer}.{side}" for side in ("key", "value")]
    inputs_used = [*qkv, *past, inputs.seqlens_k, inputs.total_sequence_length, *((rope.cos, rope.sin) if rope else ("", ""))]
    options = {}
    if window is not None:
        options["local_window_size"] = window
    if graph.layout.numerics.kv == "int8":
        inputs_used += [""] * (GQA_KV_SCALES_AT - len(inputs_used)) + [scale_name(layer, side) for side in ("key", "value")]
        options.update(k_quant_type=KV_SCALES_EACH, v_quant_type=KV_SCALES_EACH, kv_cache_bit_width=8)
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
    return linear(graph, product, f"{name}.down", label, (down,), layer_bits(graph, layer))


def output_head(graph: Graph, x: str, inputs: DecoderInputs, part: Part) -> str:
    """float32 logits of the rows that `logits_idx` names: the other rows never meet the vocabulary."""
    rows = graph.constant("flat_rows", np.array([-1, graph.shape.hidden], np.int64))
    flat = graph.node("Reshape", [x, rows], ["flat_hidden"])
    wanted = graph.node("Gather", [flat, inputs.logits_idx], ["wanted_hidden"], axis=0)
    logits = graph.output("logits", TensorProto.FLOAT, ["wanted_rows", graph.shape.vocab])
    bits = graph.layout.numerics.head_bits
    if graph.float_type == TensorProto.FLOAT:
        return linear(graph, wanted, logits, "output head", (part,), bits)
    return graph.node("Cast", [linear(graph, wanted, "half_logits", "output head", (part,), bits)], [logits], to=TensorProto.FLOAT)


def _scales(graph: Graph, weight: str, rows: int, columns: int, stored: Stored) -> str:
    blocks = (rows, columns // graph.layout.numerics.block_size)
    return graph.stored(f"{weight}.scales", graph.float_type, blocks, stored.scales)


def _norm_weight(graph: Graph, label: str, part: Part) -> str:
    return graph.stored(part.name, graph.float_type, part.shape, graph.layout.vector(label, part).data)
