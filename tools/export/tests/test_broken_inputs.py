"""Every broken input gets its own clear message, a failing exit code and no output folder."""

import json
import shutil
import struct

import pytest
from conftest import edit_json

from exaone_export.cli import main


def set_config(**values):
    return lambda folder: edit_json(folder / "config.json", lambda config: config.update(values))


def edit_header(folder, change):
    """Rewrites the header of a shard, keeping its data."""
    path = folder / first_shard(folder)
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def first_shard(folder):
    return sorted(file.name for file in folder.glob("*.safetensors"))[0]


def drop_tensor(folder):
    name = "transformer.h.1.mlp.c_fc_1.weight"
    index = folder / "model.safetensors.index.json"
    shard = folder / json.loads(index.read_text())["weight_map"][name]
    edit_json(index, lambda value: value["weight_map"].pop(name))
    content = shard.read_bytes()
    shard.write_bytes(content.replace(name.encode(), name.replace("transformer", "transfarmer").encode()))
    edit_json(index, lambda value: value["weight_map"].update({name.replace("transformer", "transfarmer"): shard.name}))


def drop_marker(folder):
    def change(tokenizer):
        tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "[|endofturn|]"]

    edit_json(folder / "tokenizer.json", change)


def plain_marker(folder):
    def change(tokenizer):
        next(token for token in tokenizer["added_tokens"] if token["content"] == "[|user|]")["special"] = False

    edit_json(folder / "tokenizer.json", change)


def truncate(folder):
    path = folder / first_shard(folder)
    path.write_bytes(path.read_bytes()[:-100])


def not_a_number(folder):
    path = folder / first_shard(folder)
    content = bytearray(path.read_bytes())
    content[-2:] = b"\xc0\x7f"  # bfloat16 NaN
    path.write_bytes(content)


def cut_header(folder):
    path = folder / first_shard(folder)
    path.write_bytes(path.read_bytes()[:20])


def unknown_type(folder):
    def change(header):
        header["transformer.wte.weight"]["dtype"] = "F8_E4M3"

    edit_header(folder, change)


def wrong_length(folder):
    def change(header):
        header["transformer.wte.weight"]["shape"][0] -= 1

    edit_header(folder, change)


def rename_tensor(folder):
    index = folder / "model.safetensors.index.json"
    edit_json(index, lambda value: value["weight_map"].update({"transformer.h.0.attn.bias": first_shard(folder)}))


def extra_tensor(folder):
    def change(header):
        header["transformer.h.0.mlp.c_fc_0.bias"] = header["transformer.h.0.ln_1.weight"]

    edit_header(folder, change)


CASES = {
    "unknown architecture": (set_config(model_type="llama"), ["'llama'", "exaone3", "'exaone'"]),
    "no architecture": (set_config(model_type=None), ["None", "exaone3"]),
    "unsupported activation": (set_config(activation_function="gelu"), ["activation_function", "'gelu'", "'silu'"]),
    "unsupported rope scaling": (set_config(rope_scaling={"rope_type": "yarn", "factor": 4.0}), ["rope_scaling", "'yarn'", "'llama3'"]),
    "incomplete rope scaling": (set_config(rope_scaling={"rope_type": "llama3", "factor": 4.0}), ["low_freq_factor", "None"]),
    "unsupported rope parameters": (set_config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e6}), ["rope_parameters", "'yarn'"]),
    "no rope theta": (set_config(rope_theta=None), ["rope_theta", "None"]),
    "no norm epsilon": (set_config(layer_norm_epsilon=None), ["layer_norm_epsilon", "None"]),
    "heads that do not group": (set_config(num_key_value_heads=3), ["num_attention_heads 4", "num_key_value_heads 3"]),
    "no layer count": (set_config(num_layers=None), ["num_layers", "None"]),
    "already quantised": (set_config(quantization_config={"bits": 4}), ["quantised already", "bf16"]),
    "misshapen tensor": (
        set_config(intermediate_size=640),
        ["transformer.h.0.mlp.c_fc_0.weight", "has shape [320, 320]", "expected [640, 320]"],
    ),
    "missing tensor": (drop_tensor, ["transformer.h.1.mlp.c_fc_1.weight", "[320, 320]", "missing"]),
    "tensor the architecture does not use": (extra_tensor, ["transformer.h.0.mlp.c_fc_0.bias", "does not use"]),
    "tensor listed but absent from its shard": (rename_tensor, ["transformer.h.0.attn.bias", "lacks it"]),
    "truncated shard": (truncate, ["truncated", "model-00001", "download it again"]),
    "shard without a header": (cut_header, ["model-00001", "no valid header"]),
    "header that contradicts itself": (wrong_length, ["model-00001", "broken safetensors header", "[511, 320]"]),
    "unknown number format": (unknown_type, ["transformer.wte.weight", "F8_E4M3", "BF16"]),
    "damaged values": (not_a_number, ["NaN", "transformer."]),
    "missing shard": (lambda folder: (folder / first_shard(folder)).unlink(), ["model-00001", "not in", "index"]),
    "no weights at all": (lambda folder: [file.unlink() for file in folder.glob("model*")], ["neither model.safetensors nor"]),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), ["config.json", "not valid JSON"]),
    "no config": (lambda folder: (folder / "config.json").unlink(), ["config.json", "missing"]),
    "broken index": (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), ["index.json", "not a JSON object"]),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), ["tokenizer.json", "missing"]),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), ["tokenizer.json", "not a tokenizer"]),
    "tokenizer without a marker": (drop_marker, ["tokenizer.json", "[|endofturn|]", "lacks"]),
    "marker that is not special": (plain_marker, ["tokenizer.json", "[|user|]", "lacks the special token"]),
    "tokenizer of another model": (set_config(vocab_size=500), ["512 tokens", "500 embedding rows"]),
    "no chat template": (
        lambda folder: edit_json(folder / "tokenizer_config.json", lambda value: value.pop("chat_template")),
        ["no chat template", "chat_template.jinja"],
    ),
}


def check_refusal(arguments, message, out, capsys):
    assert main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert "error: " in error and "Traceback" not in error
    for part in message:
        assert part in error
    assert not out.exists()
    assert [file.name for file in out.parent.iterdir() if "partial" in file.name] == []


@pytest.mark.parametrize("case", CASES)
def test_a_broken_checkpoint_is_refused_in_plain_words(case, broken_copy, tmp_path, capsys):
    damage, message = CASES[case]
    damage(broken_copy)
    out = tmp_path / "out"
    check_refusal([broken_copy, out, "--precision", "int4", "--target", "cpu", "--context", "256"], message, out, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "fp16", "--target", "cpu"], ["fp16", "--target cpu", "int8"]),
        (["--precision", "fp32", "--target", "cuda"], ["fp32", "--target cuda", "fp16"]),
        (["--precision", "int4", "--target", "cpu", "--block-size", "128"], ["--block-size 128", "16, 32"]),
        (["--precision", "int8", "--target", "cpu", "--block-size", "33"], ["--block-size 33", "32, 64"]),
        (["--precision", "int4", "--target", "cpu", "--context", "1000000"], ["--context 1000000", "32768"]),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message, checkpoints, tmp_path, capsys):
    out = tmp_path / "out"
    check_refusal([checkpoints["tied-80"], out, *options], message, out, capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"too short", ["--calibrate", "128 are needed"]), (b"\xff" * 999, ["--calibrate", "not UTF-8"]), (None, ["No such file", "text.txt"])],
)
def test_a_text_that_nothing_can_be_calibrated_on_is_refused(content, message, checkpoints, tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "out"
    if content is not None:
        text.write_bytes(content)
    options = ["--precision", "int4", "--target", "cpu", "--kv", "int8", "--calibrate", text]
    check_refusal([checkpoints["tied-80"], out, *options], message, out, capsys)


@pytest.mark.parametrize("options", [["--kv", "int8"], ["--calibrate", "text.txt"]])
def test_int8_keys_and_values_need_a_text_and_a_text_needs_them(options, checkpoints, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(checkpoints["tied-80"]), str(tmp_path / "out"), "--precision", "int4", "--target", "cpu", *options])
    assert "go together" in capsys.readouterr().err


EXAONE_4 = {
    "layer of an unknown kind": (set_config(layer_types=["chunked_attention"] * 4), ["layer_types", "chunked_attention"]),
    "too few layer kinds": (set_config(layer_types=["full_attention"]), ["layer_types", "4 layers"]),
    "no pattern of windows": (set_config(layer_types=None, sliding_window_pattern=None), ["sliding_window_pattern", "None"]),
    "a window of nothing": (set_config(sliding_window=0), ["sliding_window", "0"]),
    "unsupported activation": (set_config(hidden_act="gelu"), ["hidden_act", "'gelu'", "'silu'"]),
}


@pytest.mark.parametrize("case", EXAONE_4)
def test_a_broken_checkpoint_of_exaone_4_is_refused_in_plain_words(case, checkpoints, tmp_path, capsys):
    damage, message = EXAONE_4[case]
    shutil.copytree(checkpoints["hybrid-64"], tmp_path / "checkpoint")
    damage(tmp_path / "checkpoint")
    out = tmp_path / "out"
    check_refusal([tmp_path / "checkpoint", out, "--precision", "int4", "--target", "cpu"], message, out, capsys)


def test_a_block_that_does_not_divide_a_matrix_is_refused(broken_copy, tmp_path, capsys):
    set_config(intermediate_size=336)(broken_copy)
    out = tmp_path / "out"
    check_refusal([broken_copy, out, "--precision", "int4", "--target", "cpu"], ["--block-size 32", "336", "c_proj"], out, capsys)


def test_too_little_disk_is_noticed_before_writing(checkpoints, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1 << 20))
    out = tmp_path / "out"
    message = ["not enough disk space", str(tmp_path), "0.00 GiB are free"]
    check_refusal([checkpoints["tied-80"], out, "--precision", "fp32", "--target", "cpu"], message, out, capsys)


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    check_refusal([tmp_path / "nowhere", out, "--precision", "int4", "--target", "cpu"], ["nowhere", "not a folder"], out, capsys)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_a_weight_beyond_fp16_is_refused_for_cuda(precision, broken_copy, tmp_path, capsys):
    path = broken_copy / first_shard(broken_copy)
    content = bytearray(path.read_bytes())
    content[-2:] = b"\x80\x47"  # bfloat16 65536
    path.write_bytes(content)
    out = tmp_path / "out"
    check_refusal([broken_copy, out, "--precision", precision, "--target", "cuda", "--context", "64"], ["65504", "--target cpu"], out, capsys)
