"""EXAONE 3.0 and 3.5: RMS norm before each block, grouped-query attention with RoPE, gated SiLU MLP."""

from ..blocks import DecoderInputs, Rope, add_rms_norm, attention, embedding, gated_mlp, layer_bits, linear, output_head, rms_norm
from ..config import check_activation, context_tokens, flag, head_counts, number, positive
from ..graph import Graph
from ..rope import read_rope
from ..shape import ModelShape
from ..weights import Part
from .exaone3_reference import reference_cache, reference_logits

__all__ = ["LICENCE_NOTE", "MARKERS", "MODEL_TYPE", "NAME", "build", "is_unused", "parse_config", "reference_cache", "reference_logits"]
NAME = "exaone3"
MODEL_TYPE = "exaone"
MARKERS = {
    "bos": "[BOS]",
    "pad": "[PAD]",
    "unk": "[UNK]",
    "system": "[|system|]",
    "user": "[|user|]",
    "assistant": "[|assistant|]",
    "end_of_turn": "[|endofturn|]",
}
LICENCE_NOTE = (
    "Made from an EXAONE checkpoint: LG AI Research's EXAONE AI Model License Agreement, non-commercial, applies to this export "
    "as it does to the checkpoint."
)


def parse_config(config: dict, context: int | None) -> ModelShape:
    """The model's shape; `context` as `context_tokens` takes it."""
    check_activation(config, "activation_function")
    hidden, (heads, kv_heads) = positive(config, "hidden_size"), head_counts(config)
    theta, scaling = read_rope(config)
    return ModelShape(
        architecture=NAME,
        layers=positive(config, "num_layers"),
        hidden=hidden,
        intermediate=positive(config, "intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=positive(config, "head_dim", hidden // heads),
        vocab=positive(config, "vocab_size"),
        context=context_tokens(config, context),
        norm_epsilon=number(config, "layer_norm_epsilon"),
        tied_head=flag(config, "tie_word_embeddings", True),
        rope_theta=theta,
        rope_scaling=scaling,
    )


def build(graph: Graph) -> None:
    """Assembles the decoder; the residual sum is carried into the norm that follows it."""
    shape = graph.shape
    inputs, rope = DecoderInputs(graph), Rope(graph)
    table = Part("transformer.wte.weight", (shape.vocab, shape.hidden))
    residual = embedding(graph, inputs.input_ids, table)
    x = rms_norm(graph, residual, "layer.0.attention_norm", "layer 1", _norm(shape, 0, "ln_1"))
    for layer in range(shape.layers):
        label = f"layer {layer + 1}"
        qkv = linear(graph, x, f"layer.{layer}.qkv", label, _qkv(shape, layer), layer_bits(graph, layer))
        mixed = attention(graph, (qkv, "", ""), layer, inputs, rope)
        attended = linear(graph, mixed, f"layer.{layer}.attention_out", label, (_attention_out(shape, layer),))
        x, residual = add_rms_norm(graph, attended, residual, f"layer.{layer}.mlp_norm", label, _norm(shape, layer, "ln_2"))
        x = gated_mlp(graph, x, layer, *_mlp(shape, layer))
        if layer + 1 < shape.layers:
            following = f"layer.{layer + 1}.attention_norm", f"layer {layer + 2}", _norm(shape, layer + 1, "ln_1")
        else:
            following = "final_norm", "output head", Part("transformer.ln_f.weight", (shape.hidden,))
        x, residual = add_rms_norm(graph, x, residual, *following)
    head = table if shape.tied_head else Part("lm_head.weight", (shape.vocab, shape.hidden))
    output_head(graph, x, inputs, head)


def is_unused(tensor: str) -> bool:
    """Rotation frequencies are computed; a tied head may be published a second time."""
    return tensor.endswith(".inv_freq") or tensor == "lm_head.weight"


def _norm(shape: ModelShape, layer: int, name: str) -> Part:
    return Part(f"transformer.h.{layer}.{name}.weight", (shape.hidden,))


def _qkv(shape: ModelShape, layer: int) -> tuple[Part, ...]:
    rows = (("q_proj", shape.heads), ("k_proj", shape.kv_heads), ("v_proj", shape.kv_heads))
    prefix = f"transformer.h.{layer}.attn.attention"
    return tuple(Part(f"{prefix}.{name}.weight", (heads * shape.head_dim, shape.hidden)) for name, heads in rows)


def _attention_out(shape: ModelShape, layer: int) -> Part:
    return Part(f"transformer.h.{layer}.attn.attention.out_proj.weight", (shape.hidden, shape.heads * shape.head_dim))


def _mlp(shape: ModelShape, layer: int) -> tuple[Part, Part, Part]:
    prefix = f"transformer.h.{layer}.mlp"
    wide, narrow = (shape.intermediate, shape.hidden), (shape.hidden, shape.intermediate)
    return Part(f"{prefix}.c_fc_0.weight", wide), Part(f"{prefix}.c_fc_1.weight", wide), Part(f"{prefix}.c_proj.weight", narrow)
