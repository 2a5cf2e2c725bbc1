"""EXAONE 4.0: norms of queries and keys, RMS norm behind each block, and in the larger model sliding windows on most layers."""

from ..blocks import DecoderInputs, Rope, add, attention, embedding, gated_mlp, layer_bits, linear, norm_heads, output_head, rms_norm
from ..config import check_activation, context_tokens, flag, head_counts, number, positive
from ..errors import ExportError
from ..graph import Graph
from ..rope import read_rope
from ..shape import LayerKind, ModelShape
from ..weights import Part
from .exaone3 import LICENCE_NOTE, MARKERS
from .exaone4_reference import reference_cache, reference_logits

__all__ = ["LICENCE_NOTE", "MARKERS", "MODEL_TYPE", "NAME", "build", "is_unused", "parse_config", "reference_cache", "reference_logits"]
NAME = "exaone4"
MODEL_TYPE = "exaone4"
SLIDING, FULL = "sliding_attention", "full_attention"


def parse_config(config: dict, context: int | None) -> ModelShape:
    """The model's shape; `context` as `context_tokens` takes it."""
    check_activation(config, "hidden_act")
    hidden, (heads, kv_heads) = positive(config, "hidden_size"), head_counts(config)
    theta, scaling = read_rope(config)
    layers = positive(config, "num_hidden_layers")
    return ModelShape(
        architecture=NAME,
        layers=layers,
        hidden=hidden,
        intermediate=positive(config, "intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=positive(config, "head_dim", hidden // heads),
        vocab=positive(config, "vocab_size"),
        context=context_tokens(config, context),
        norm_epsilon=number(config, "rms_norm_eps"),
        tied_head=flag(config, "tie_word_embeddings", False),
        rope_theta=theta,
        rope_scaling=scaling,
        layer_kinds=_layer_kinds(config, layers),
    )


def build(graph: Graph) -> None:
    """Assembles the decoder; what a block gives is normed before it joins the residual sum."""
    shape = graph.shape
    inputs, rope = DecoderInputs(graph), Rope(graph)
    table = Part("model.embed_tokens.weight", (shape.vocab, shape.hidden))
    x = embedding(graph, inputs.input_ids, table)
    for layer, kind in enumerate(shape.layer_kinds):
        name, label = f"layer.{layer}", f"layer {layer + 1}"
        qkv = linear(graph, x, f"{name}.qkv", label, _qkv(shape, layer), layer_bits(graph, layer))
        normed = norm_heads(graph, qkv, layer, *_head_norms(shape, layer))
        mixed = attention(graph, normed, layer, inputs, rope if kind.rotary else None, kind.window)
        attended = linear(graph, mixed, f"{name}.attention_out", label, (_attention_out(shape, layer),))
        normed = rms_norm(graph, attended, f"{name}.attention_norm", label, _norm(shape, layer, "post_attention_layernorm"))
        x = add(graph, x, normed, f"{name}.attention_sum")
        raised = gated_mlp(graph, x, layer, *_mlp(shape, layer))
        normed = rms_norm(graph, raised, f"{name}.mlp_norm", label, _norm(shape, layer, "post_feedforward_layernorm"))
        x = add(graph, x, normed, f"{name}.mlp_sum")
    x = rms_norm(graph, x, "final_norm", "output head", Part("model.norm.weight", (shape.hidden,)))
    head = table if shape.tied_head else Part("lm_head.weight", (shape.vocab, shape.hidden))
    output_head(graph, x, inputs, head)


def is_unused(tensor: str) -> bool:
    """Rotation frequencies are computed; a tied head may be published a second time."""
    return tensor.endswith(".inv_freq") or tensor == "lm_head.weight"


def _layer_kinds(config: dict, layers: int) -> tuple[LayerKind, ...]:
    """Where layers have windows, those without one don't know positions at all; where none may have, all do."""
    if config.get("sliding_window") is None:
        kinds, window = [FULL] * layers, None
    else:
        kinds, window = config.get("layer_types") or _pattern(config, layers), positive(config, "sliding_window")
    if len(kinds) != layers or not {*kinds} <= {SLIDING, FULL}:
        raise ExportError(f"config.json: layer_types must name {layers} layers, each {SLIDING!r} or {FULL!r}; found {kinds!r}")
    full = LayerKind(None, rotary=window is None)
    return tuple(LayerKind(window, rotary=True) if kind == SLIDING else full for kind in kinds)


def _pattern(config: dict, layers: int) -> list[str]:
    """Layer types from "LLLG" or 4: three layers with windows, then one without, again and again."""
    pattern = config.get("sliding_window_pattern")
    if type(pattern) is int and pattern > 0:
        pattern = "L" * (pattern - 1) + "G"
    if not isinstance(pattern, str) or not pattern or {*pattern} - {"L", "G"}:
        raise ExportError(f"config.json: sliding_window_pattern {pattern!r} is neither a number nor a text of L and G, and there are no layer_types")
    return [SLIDING if pattern[layer % len(pattern)] == "L" else FULL for layer in range(layers)]


def _norm(shape: ModelShape, layer: int, name: str) -> Part:
    return Part(f"model.layers.{layer}.{name}.weight", (shape.hidden,))


def _head_norms(shape: ModelShape, layer: int) -> tuple[Part, Part]:
    prefix = f"model.layers.{layer}.self_attn"
    return Part(f"{prefix}.q_norm.weight", (shape.head_dim,)), Part(f"{prefix}.k_norm.weight", (shape.head_dim,))


def _qkv(shape: ModelShape, layer: int) -> tuple[Part, ...]:
    rows = (("q_proj", shape.heads), ("k_proj", shape.kv_heads), ("v_proj", shape.kv_heads))
    prefix = f"model.layers.{layer}.self_attn"
    return tuple(Part(f"{prefix}.{name}.weight", (heads * shape.head_dim, shape.hidden)) for name, heads in rows)


def _attention_out(shape: ModelShape, layer: int) -> Part:
    return Part(f"model.layers.{layer}.self_attn.o_proj.weight", (shape.hidden, shape.heads * shape.head_dim))


def _mlp(shape: ModelShape, layer: int) -> tuple[Part, Part, Part]:
    prefix = f"model.layers.{layer}.mlp"
    wide, narrow = (shape.intermediate, shape.hidden), (shape.hidden, shape.intermediate)
    return Part(f"{prefix}.gate_proj.weight", wide), Part(f"{prefix}.up_proj.weight", wide), Part(f"{prefix}.down_proj.weight", narrow)
