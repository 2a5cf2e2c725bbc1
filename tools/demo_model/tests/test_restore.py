"""The shipped model turned back into a checkpoint is the one that it was exported from, as far as int8 remembers."""

import numpy as np
from exaone_export.cli import main
from safetensors.numpy import load_file

from demo_model.restore import config_of, restore
from demo_model.tokenizer import FOLDER


def test_it_exports_to_the_very_model_that_it_came_from(tmp_path):
    restore(FOLDER, tmp_path / "checkpoint")
    tensors = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert tensors["transformer.wte.weight"].shape == (8192, 256) and np.isfinite(tensors["transformer.ln_f.weight"]).all()
    assert main([str(tmp_path / "checkpoint"), str(tmp_path / "out"), "--precision", "int8", "--target", "cpu"]) == 0
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_its_configuration_is_what_model_json_says():
    manifest = {"special_tokens": {role: {"id": at} for at, role in enumerate(("bos", "end_of_turn", "pad"))}}
    sizes = ("vocab_size", "layers", "hidden_size", "intermediate_size", "heads", "kv_heads", "head_dim", "context_tokens")
    manifest |= {name: 7 + at for at, name in enumerate(sizes)} | {"tied_head": True}
    config = config_of(manifest)
    assert (config["num_layers"], config["num_key_value_heads"], config["eos_token_id"]) == (8, 12, 1)
