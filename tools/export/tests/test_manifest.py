"""model.json matches its schema and tells the truth about the folder it lies in."""

import hashlib
import json
from pathlib import Path

import onnx
import pytest
from conftest import DEMO
from schema_check import problems

SCHEMA = json.loads((Path(__file__).parents[3] / "models" / "model.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(params=["tied int4 cpu", "untied fp32 cpu", "untied fp16 cuda", "hybrid int4 cpu --kv int8", "demo"])
def folder(request, exported):
    """Folders of exports of every kind."""
    if request.param == "demo":
        if not (DEMO / "model.json").exists():
            pytest.skip("there is no demo model")
        return DEMO
    kind, precision, target, *options = request.param.split()
    return exported({"tied": "tied-80", "untied": "untied-128", "hybrid": "hybrid-64"}[kind], precision, target, 32, *options)


@pytest.fixture
def manifest(folder):
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))


def test_it_matches_the_schema(manifest):
    assert problems(manifest, SCHEMA, SCHEMA) == []


def test_the_schema_notices_what_is_wrong(manifest):
    wrong = {**manifest, "layers": 0, "extra": 1, "eos_ids": [-1], "special_tokens": {}}
    assert len(problems(wrong, SCHEMA, SCHEMA)) == 4


def test_it_lists_every_file_with_its_size_and_hash(folder, manifest):
    assert {*manifest["files"], "model.json"} == {file.name for file in folder.iterdir()} - {"interview.json"}  # the demo's example
    for name, expected in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert expected == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["weights_bytes"] == manifest["files"]["model.onnx.data"]["bytes"]


def test_the_graph_has_the_shapes_it_names(folder, manifest):
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    names = [value.name for value in graph.input]
    assert names[:4] == ["input_ids", "seqlens_k", "total_sequence_length", "logits_idx"]
    assert len(names) == 4 + 2 * manifest["layers"]
    cache = next(value.type.tensor_type for value in graph.input if value.name == "past_key_values.0.key")
    types = {"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}
    assert cache.elem_type == types[manifest["kv_type"]]
    assert [dim.dim_value for dim in cache.shape.dim] == [0, manifest["kv_heads"], 0, manifest["head_dim"]]
    logits = next(value.type.tensor_type for value in graph.output if value.name == "logits")
    assert logits.elem_type == onnx.TensorProto.FLOAT
    assert logits.shape.dim[1].dim_value == manifest["vocab_size"]


def test_the_end_of_a_turn_ends_generation(manifest):
    assert manifest["eos_ids"][0] == manifest["special_tokens"]["end_of_turn"]["id"]


def test_random_weights_are_called_random(exported):
    manifest = json.loads((exported("tied-80", "int4") / "model.json").read_text(encoding="utf-8"))
    assert manifest["random"] is True
    assert "andom weights" in manifest["licence_note"]
