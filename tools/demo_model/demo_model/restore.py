"""Turns the shipped model back into a checkpoint, so that it can be exported in other ways: its int8 weights, as the floats that they mean."""

import argparse
import json
import pathlib
import shutil

import numpy as np
from exaone_export.architectures import find_architecture
from exaone_export.graph import Graph
from exaone_export.numerics import choose_numerics
from exaone_export.weights import Layout
from safetensors.numpy import save_file

from .tokenizer import FOLDER

SHARED = ["tokenizer.json", "chat_template.jinja"]
ZERO_INT8 = 128  # of a symmetric 8-bit block


def config_of(manifest: dict) -> dict:
    """config.json of the checkpoint that was exported; what model.json does not say is as `demo_model.model` trains it."""
    ids = {f"{role}_token_id": manifest["special_tokens"][marker]["id"] for role, marker in (("bos", "bos"), ("eos", "end_of_turn"), ("pad", "pad"))}
    return {
        "model_type": "exaone",
        "activation_function": "silu",
        "vocab_size": manifest["vocab_size"],
        "num_layers": manifest["layers"],
        "hidden_size": manifest["hidden_size"],
        "intermediate_size": manifest["intermediate_size"],
        "num_attention_heads": manifest["heads"],
        "num_key_value_heads": manifest["kv_heads"],
        "head_dim": manifest["head_dim"],
        "max_position_embeddings": manifest["context_tokens"],
        "layer_norm_epsilon": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": manifest["tied_head"],
        **ids,
    }


def tensors_of(folder: pathlib.Path, manifest: dict, config: dict) -> dict[str, np.ndarray]:
    """Every tensor of the checkpoint, float32."""
    architecture = find_architecture(config)
    layout = Layout(choose_numerics(manifest["precision"], manifest["target"], manifest["block_size"]))
    architecture.build(Graph(architecture.parse_config(config, None), layout))
    content = np.fromfile(folder / "model.onnx.data", np.uint8)
    if layout.size != len(content):
        raise SystemExit(f"{folder} was exported by another version of the exporter")

    def read(region, dtype):
        return content[region.offset : region.offset + region.length].view(dtype)

    for region, values in layout.constants:  # the rotation tables: what config_of assumes is what was exported
        assert np.array_equal(read(region, values.dtype), values.ravel())
    tensors = {}
    for stored in layout.stored.values():
        values = read(stored.data, np.uint8 if stored.scales else np.float32)
        if stored.scales:
            blocks = values.reshape(-1, manifest["block_size"]).astype(np.float32) - ZERO_INT8
            values = (blocks * read(stored.scales, np.float32)[:, None]).ravel()
        bounds = np.cumsum([int(np.prod(part.shape)) for part in stored.parts])
        for part, piece in zip(stored.parts, np.split(values, bounds[:-1]), strict=True):
            tensors[part.name] = np.ascontiguousarray(piece.reshape(part.shape))
    return tensors


def restore(folder: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the checkpoint folder."""
    manifest = json.loads((folder / "model.json").read_text("utf-8"))
    config = config_of(manifest)
    tensors = tensors_of(folder, manifest, config)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    for name in SHARED:
        shutil.copy(folder / name, out / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="checkpoint folder to write")
    args = parser.parse_args()
    restore(FOLDER, args.out)


if __name__ == "__main__":
    main()
