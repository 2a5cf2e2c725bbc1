"""The demo model: EXAONE-3.5 architecture in torch, its training loss with a shared prefix, and checkpoints as published ones are laid out."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


@dataclasses.dataclass(frozen=True)
class Config:
    """Shape of the model and the special ids that go into config.json."""

    vocab_size: int = 8192
    num_layers: int = 6
    hidden_size: int = 256
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    head_dim: int = 32
    intermediate_size: int = 768
    max_position_embeddings: int = 2304
    layer_norm_epsilon: float = 1e-5
    rope_theta: float = 10000.0
    bos_token_id: int = 0
    eos_token_id: int = 0
    pad_token_id: int = 0

    def to_hf(self) -> dict:
        return {
            "architectures": ["ExaoneForCausalLM"],
            "model_type": "exaone",
            "activation_function": "silu",
            "attention_dropout": 0.0,
            "embed_dropout": 0.0,
            "initializer_range": 0.02,
            "rope_scaling": None,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "use_cache": True,
            **dataclasses.asdict(self),
        }

    @classmethod
    def from_hf(cls, raw: dict) -> "Config":
        if raw.get("model_type") != "exaone" or raw.get("rope_scaling") or not raw.get("tie_word_embeddings"):
            raise ValueError("the demo model reads only exaone checkpoints with tied embeddings and no rope scaling")
        return cls(**{field.name: raw[field.name] for field in dataclasses.fields(cls) if field.name in raw})


class Block(nn.Module):
    """Weights of one layer; q/k/v and gate/up are packed because fewer, larger matmuls are faster."""

    def __init__(self, c: Config):
        super().__init__()
        rows = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim
        self.ln_1 = nn.Parameter(torch.ones(c.hidden_size))
        self.qkv = nn.Parameter(torch.empty(rows, c.hidden_size))
        self.out = nn.Parameter(torch.empty(c.hidden_size, c.num_attention_heads * c.head_dim))
        self.ln_2 = nn.Parameter(torch.ones(c.hidden_size))
        self.gate_up = nn.Parameter(torch.empty(2 * c.intermediate_size, c.hidden_size))
        self.down = nn.Parameter(torch.empty(c.hidden_size, c.intermediate_size))


class Exaone(nn.Module):
    """The whole network; `forward` and `reference_loss` are plain fp32; `fused.batch_loss` is the fast training path."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.wte = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.ln_f = nn.Parameter(torch.ones(config.hidden_size))
        inverse = config.rope_theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim)
        angles = torch.arange(config.max_position_embeddings, dtype=torch.float64)[:, None] * inverse
        self.register_buffer("cos", angles.cos().float().contiguous(), persistent=False)
        self.register_buffer("sin", angles.sin().float().contiguous(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        # Projections that write into the residual stream start smaller, so its variance does not grow with depth.
        residual = 0.02 / (2 * self.config.num_layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=residual if name.endswith((".out", ".down")) else 0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [T, vocab] of one sequence of ids [T], in fp32 and without any cache."""
        return F.linear(self.hidden([ids]), self.wte)

    def hidden(self, segments: list[torch.Tensor]) -> torch.Tensor:
        """Final normed rows of segments[0] (the prefix) and of each later segment, which sees the prefix and itself."""
        c, lengths = self.config, [len(s) for s in segments]
        position = positions(lengths)
        cos, sin = self.cos[position, None], self.sin[position, None]
        x = F.embedding(torch.cat(segments).long(), self.wte)
        for block in self.blocks:
            packed = F.linear(self._norm(x, block.ln_1), block.qkv).view(len(x), -1, c.head_dim)
            query, key, value = packed.split([c.num_attention_heads] + 2 * [c.num_key_value_heads], 1)
            mixed = attend(rotate(query, cos, sin), rotate(key, cos, sin), value, lengths)
            x = x + F.linear(mixed, block.out)
            gate, up = F.linear(self._norm(x, block.ln_2), block.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, block.down)
        return self._norm(x, self.ln_f)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x.float(), weight.shape, weight, self.config.layer_norm_epsilon)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Reference attention [T, heads, dim] -> [T, heads * dim]: the prefix to itself, every item to prefix and itself."""
    prefix, start, out = lengths[0], 0, []
    group = query.shape[1] // key.shape[1]
    shared_key, shared_value = key[:prefix], value[:prefix]
    for number, length in enumerate(lengths):
        own = slice(start, start + length)
        keys = torch.cat((shared_key, key[own])) if number else key[own]
        values = torch.cat((shared_value, value[own])) if number else value[own]
        mask = torch.ones(length, len(keys), dtype=torch.bool).tril(len(keys) - length)
        out.append(F.scaled_dot_product_attention(
            query[own].transpose(0, 1)[None],
            keys.repeat_interleave(group, 1).transpose(0, 1)[None],
            values.repeat_interleave(group, 1).transpose(0, 1)[None], attn_mask=mask)[0].transpose(0, 1))
        start += length
    return torch.cat(out).flatten(1)


def positions(lengths: list[int]) -> torch.Tensor:
    """Positions of the prefix (from 0) and of each item (from the prefix's length)."""
    return torch.cat([torch.arange(n) + (lengths[0] if i else 0) for i, n in enumerate(lengths)])


# ---- the training batch -------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Batch:
    """One group laid out for training: segments of ids, the rows that predict something, what they predict, how much it counts."""

    segments: list[torch.Tensor]
    rows: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor

    @property
    def tokens(self) -> int:
        return sum(len(s) for s in self.segments)

    @property
    def total_weight(self) -> float:
        return float(self.weights.sum())


def make_batch(group: dict, context: int = 2304) -> Batch:
    """Lays out a group; whatever follows an item's last weighted token predicts nothing and is cut, as is what exceeds the context."""
    prefix = np.asarray(group["prefix"], np.int32)
    segments, rows, targets, weights, start = [prefix], [], [], [], len(prefix)
    for item in group["items"]:
        room = context - len(prefix)
        ids, weight = np.asarray(item["ids"], np.int32)[:room], np.asarray(item["weight"], np.float32)[:room]
        wanted = np.flatnonzero(weight > 0)
        if not len(wanted):
            continue
        # ids[0] is predicted by the prefix's last row, ids[j] by the row of ids[j - 1].
        rows.append(np.where(wanted == 0, len(prefix) - 1, start + wanted - 1))
        targets.append(ids[wanted])
        weights.append(weight[wanted])
        kept = ids[: wanted[-1]]
        segments.append(kept)
        start += len(kept)
    if not rows:
        raise ValueError("a training group without any weighted token")
    return Batch([torch.from_numpy(s.copy()) for s in segments], torch.from_numpy(np.concatenate(rows)),
                 torch.from_numpy(np.concatenate(targets)), torch.from_numpy(np.concatenate(weights)))


def reference_loss(model: Exaone, batch: Batch, total_weight: float) -> torch.Tensor:
    """sum(w * ce) / total_weight through plain torch: what the fused path must equal, and what runs where it cannot."""
    logits = F.linear(model.hidden(batch.segments)[batch.rows], model.wte)
    loss = F.cross_entropy(logits.float(), batch.targets.long(), reduction="none")
    return (loss * batch.weights).sum() / total_weight


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def published_tensors(model: Exaone) -> dict[str, torch.Tensor]:
    """The weights under the names and in the shapes of a published EXAONE checkpoint (packed matrices split)."""
    c = model.config
    query, key = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    tensors = {"transformer.wte.weight": model.wte, "transformer.ln_f.weight": model.ln_f}
    for number, block in enumerate(model.blocks):
        root = f"transformer.h.{number}."
        q, k, v = block.qkv.split([query, key, key])
        gate, up = block.gate_up.chunk(2)
        tensors |= {root + "ln_1.weight": block.ln_1, root + "ln_2.weight": block.ln_2,
                    root + "attn.attention.q_proj.weight": q, root + "attn.attention.k_proj.weight": k,
                    root + "attn.attention.v_proj.weight": v, root + "attn.attention.out_proj.weight": block.out,
                    root + "mlp.c_fc_0.weight": gate, root + "mlp.c_fc_1.weight": up,
                    root + "mlp.c_proj.weight": block.down}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def save_checkpoint(model: Exaone, config: Config, folder: str | os.PathLike) -> None:
    """Writes model.safetensors and config.json; each is renamed into place, so a kill leaves the previous one whole."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.float().clone().contiguous() for name, tensor in published_tensors(model).items()}
    save_file(tensors, folder / "model.safetensors.part", metadata={"format": "pt"})
    (folder / "model.safetensors.part").chmod(0o644)  # safetensors writes it for its owner only
    (folder / "model.safetensors.part").rename(folder / "model.safetensors")
    (folder / "config.json.part").write_text(json.dumps(config.to_hf(), indent=2) + "\n", "utf-8")
    (folder / "config.json.part").rename(folder / "config.json")


def load_checkpoint(folder: str | os.PathLike) -> Exaone:
    folder = pathlib.Path(folder)
    model = Exaone(Config.from_hf(json.loads((folder / "config.json").read_text("utf-8"))))
    stored, wanted = load_file(folder / "model.safetensors"), published_tensors(model)
    if stored.keys() != wanted.keys():
        raise ValueError(f"{folder}: tensor names differ: {sorted(stored.keys() ^ wanted.keys())}")
    # The wanted tensors are views into the packed parameters, so copying into them fills the model.
    for name, tensor in wanted.items():
        tensor.copy_(stored[name])
    return model
