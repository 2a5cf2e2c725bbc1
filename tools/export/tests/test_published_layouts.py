"""Every layout in which EXAONE checkpoints are published gives the same export."""

import json
import shutil

import numpy as np
import pytest
from conftest import edit_json
from safetensors.numpy import save_file

from exaone_export.cli import main


def as_transformers_4_leaves_out_defaults(folder):
    edit_json(folder / "config.json", lambda config: [config.pop(key) for key in ("tie_word_embeddings", "head_dim")])


def as_transformers_5_writes_rope(folder):
    def change(config):
        config["rope_parameters"] = {**config.pop("rope_scaling"), "rope_theta": config.pop("rope_theta")}

    edit_json(folder / "config.json", change)


def template_in_a_file(folder):
    def change(settings):
        (folder / "chat_template.jinja").write_text(settings.pop("chat_template"), encoding="utf-8")

    edit_json(folder / "tokenizer_config.json", change)


def several_templates(folder):
    def change(settings):
        named = [{"name": "tools", "template": "no"}, {"name": "default", "template": settings["chat_template"]}]
        settings["chat_template"] = named

    edit_json(folder / "tokenizer_config.json", change)


def tensors_that_are_not_needed(folder):
    name = "model-99999-of-99999.safetensors"
    tensors = {"lm_head.weight": np.zeros((512, 320), np.float32), "transformer.h.0.attn.attention.rotary.inv_freq": np.zeros(40, np.float32)}
    save_file(tensors, folder / name)
    edit_json(folder / "model.safetensors.index.json", lambda index: index["weight_map"].update(dict.fromkeys(tensors, name)))


LAYOUTS = [as_transformers_4_leaves_out_defaults, as_transformers_5_writes_rope, template_in_a_file, several_templates, tensors_that_are_not_needed]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_it_gives_the_same_export(layout, exported, broken_copy, tmp_path):
    layout(broken_copy)
    out, usual = tmp_path / "out", exported("tied-80", "fp32")
    options = ["--precision", "fp32", "--target", "cpu", "--context", "2048", "--verify"]
    assert main([str(broken_copy), str(out), *options]) == 0
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (usual / name).read_bytes()


def test_rope_without_scaling_as_exaone_3_0_has_it_agrees_with_the_reference(broken_copy, tmp_path):
    edit_json(broken_copy / "config.json", lambda config: config.update(rope_scaling=None, rope_theta=500000.0))
    assert main([str(broken_copy), str(tmp_path / "out"), "--precision", "fp32", "--target", "cpu", "--context", "300", "--verify"]) == 0


@pytest.mark.parametrize("pattern", ["LLLG", 4])
def test_a_pattern_of_windows_means_the_layer_types_that_it_spells(pattern, checkpoints, exported, tmp_path):
    shutil.copytree(checkpoints["hybrid-64"], tmp_path / "checkpoint")
    edit_json(tmp_path / "checkpoint" / "config.json", lambda config: config.update(layer_types=None, sliding_window_pattern=pattern))
    options = ["--precision", "fp32", "--target", "cpu", "--context", "2048", "--verify"]
    assert main([str(tmp_path / "checkpoint"), str(tmp_path / "out"), *options]) == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (exported("hybrid-64", "fp32") / "model.onnx").read_bytes()


def test_several_ends_of_generation_are_kept_with_the_end_of_a_turn_first(broken_copy, tmp_path):
    edit_json(broken_copy / "generation_config.json", lambda config: config.update(eos_token_id=[2, 361]))
    assert main([str(broken_copy), str(tmp_path / "out"), "--precision", "int4", "--target", "cpu", "--context", "64"]) == 0
    assert json.loads((tmp_path / "out" / "model.json").read_text())["eos_ids"] == [361, 2]
