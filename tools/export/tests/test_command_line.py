"""The command line replaces only what it may, leaves nothing behind when stopped, and keeps quiet in a pipe."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exaone_export import export as export_module
from exaone_export import presets
from exaone_export.cli import main
from exaone_export.random_checkpoint import main as write_random_checkpoint

OPTIONS = ["--precision", "int4", "--target", "cpu", "--context", "256"]
TINY = {"num_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}


@pytest.fixture
def tiny_presets(monkeypatch):
    """Presets of the real names and a size that tests can afford; the vocabulary stays the real one."""
    for name in presets.PRESETS:
        monkeypatch.setitem(presets._DIFFERENCES, name, {**TINY, "tie_word_embeddings": True})


def test_an_existing_folder_is_kept_unless_force_is_given(checkpoints, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(checkpoints["tied-80"]), str(out), *OPTIONS]) == 0
    before = (out / "model.json").read_bytes()
    assert main([str(checkpoints["tied-80"]), str(out), *OPTIONS]) == 1
    assert "--force" in capsys.readouterr().err
    assert (out / "model.json").read_bytes() == before
    assert main([str(checkpoints["untied-128"]), str(out), *OPTIONS, "--force"]) == 0
    assert json.loads((out / "model.json").read_text())["name"] == "untied-128"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_force_replaces_nothing_but_an_export(checkpoints, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert main([str(checkpoints["tied-80"]), str(tmp_path / "out"), *OPTIONS, "--force"]) == 1
    assert "not an earlier export" in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_a_failing_replacement_keeps_the_earlier_export(checkpoints, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert main([str(checkpoints["tied-80"]), str(out), *OPTIONS]) == 0
    before = (out / "model.json").read_bytes()
    monkeypatch.setattr(export_module, "write_manifest", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert main([str(checkpoints["tied-80"]), str(out), *OPTIONS, "--force"]) == 1
    assert (out / "model.json").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_processor_without_a_query_tile_is_warned_about(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export_module, "query_tile", lambda shape: None)
    assert main([str(checkpoints["tied-80"]), str(tmp_path / "out"), *OPTIONS]) == 0
    assert "warning: on this processor" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "model.json").read_text())["query_tile_tokens"] == 160


def test_name_licence_and_demo_flag_reach_model_json(checkpoints, tmp_path):
    out = tmp_path / "out"
    extra = ["--name", "interview demo", "--licence-note", "Made here.", "--demo"]
    assert main([str(checkpoints["tied-80"]), str(out), *OPTIONS, *extra]) == 0
    manifest = json.loads((out / "model.json").read_text())
    assert (manifest["name"], manifest["licence_note"], manifest["demo"]) == ("interview demo", "Made here.", True)
    assert manifest["context_tokens"] == 256


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(stop, tmp_path):
    command = [sys.executable, "-m", "exaone_export", "--random", "bench-0.43b", str(tmp_path / "out"), *OPTIONS]
    # Whoever runs these tests in the background of a shell may have it ignore SIGINT, and that is inherited.
    heeds = lambda: signal.signal(stop, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True, preexec_fn=heeds
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*.partial/model.onnx.data")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(stop)
    error = process.communicate(timeout=60)[1]
    assert process.returncode in (130, 143)
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_in_a_pipe_progress_is_a_few_plain_lines(checkpoints, tmp_path, capsys):
    assert main([str(checkpoints["tied-80"]), str(tmp_path / "out"), *OPTIONS]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 12
    assert not any("\r" in line or "\x1b" in line for line in lines)
    assert "100 %" in lines[-1] and "output head" in lines[-1]


def test_random_weights_are_those_of_the_random_checkpoint(tmp_path, tiny_presets):
    checkpoint, direct, through = tmp_path / "checkpoint", tmp_path / "direct", tmp_path / "through"
    assert write_random_checkpoint(["--preset", "bench-0.43b", str(checkpoint), "--seed", "5"]) == 0
    assert main([str(checkpoint), str(through), *OPTIONS]) == 0
    assert main(["--random", "bench-0.43b", "--seed", "5", str(direct), *OPTIONS]) == 0
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"):
        assert (direct / name).read_bytes() == (through / name).read_bytes()
    manifest = json.loads((direct / "model.json").read_text())
    assert manifest["random"] is True
    assert "bench-0.43b, seed 5" in manifest["source"]


def test_another_seed_gives_other_weights(tmp_path, tiny_presets):
    for seed in ("1", "2"):
        assert main(["--random", "bench-0.43b", "--seed", seed, str(tmp_path / seed), *OPTIONS]) == 0
    assert (tmp_path / "1" / "model.onnx.data").read_bytes() != (tmp_path / "2" / "model.onnx.data").read_bytes()


def test_verify_works_with_a_context_shorter_than_its_prompt(checkpoints, tmp_path, capsys):
    options = ["--precision", "fp32", "--target", "cpu", "--context", "16", "--verify"]
    assert main([str(checkpoints["tied-80"]), str(tmp_path / "out"), *options]) == 0
    assert "16 tokens" in capsys.readouterr().out
