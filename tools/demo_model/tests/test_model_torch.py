"""The demo model's training side: prefix sharing is exact, the fused kernels agree with it, checkpoints round-trip, copying is learnt."""

import argparse
import json
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from demo_model.fused import batch_loss, kernels  # noqa: E402
from demo_model.model import Config, Exaone, load_checkpoint, make_batch, reference_loss, save_checkpoint  # noqa: E402
from demo_model.train import Trainer, cost, deal, learning_rate  # noqa: E402

TINY = Config(vocab_size=512, num_layers=2, hidden_size=64, intermediate_size=96, max_position_embeddings=512)
SHAPES = [(37, (41, 33, 50), 20), (5, (200,), 150), (130, (77, 80, 64, 90), 1), (1, (1, 2), 1), (64, (16, 32, 17), 8)]


def tiny_model() -> Exaone:
    torch.manual_seed(3)
    model = Exaone(TINY)
    with torch.no_grad():  # at the initial scale attention is flat and a wrong mask would hardly show
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    return model


def random_group(prefix: int, lengths: tuple, weighted: int) -> dict:
    rng, items = np.random.default_rng(prefix), []
    for length in lengths:
        weight = np.zeros(length, np.float32)
        weight[-weighted:] = rng.choice([1.0, 3.0], min(weighted, length))
        weight[length // 2] = 0.5
        items.append({"ids": rng.integers(0, 512, length, dtype=np.int32), "weight": weight})
    return {"prefix": rng.integers(0, 512, prefix, dtype=np.int32), "items": items}


def unshared_loss(model: Exaone, group: dict) -> torch.Tensor:
    """Every item as its own full sequence, nothing shared, trimmed or gathered."""
    loss, weight, prefix = 0.0, 0.0, group["prefix"]
    for item in group["items"]:
        ids = torch.from_numpy(np.concatenate((prefix, item["ids"])))
        rows = model(ids)[len(prefix) - 1 : -1]
        each = torch.nn.functional.cross_entropy(rows, ids[len(prefix) :].long(), reduction="none")
        loss = loss + (each * torch.from_numpy(item["weight"])).sum()
        weight += float(item["weight"].sum())
    return loss / weight


def gradients(model: Exaone, loss: torch.Tensor) -> dict:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def worst(found: dict, wanted: dict) -> float:
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


@pytest.mark.parametrize("prefix, lengths, weighted", SHAPES)
def test_shared_prefix_has_the_loss_and_gradients_of_full_sequences(prefix, lengths, weighted):
    model, group = tiny_model(), random_group(prefix, lengths, weighted)
    batch = make_batch(group)
    wanted = unshared_loss(model, group)
    shared = reference_loss(model, batch, batch.total_weight)
    assert float(shared.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    exact = gradients(model, wanted)
    assert worst(gradients(model, shared), exact) < 1e-5
    if kernels(TINY) is None:
        pytest.skip("no AVX512-BF16 or no g++ here")
    fused = batch_loss(model, batch, batch.total_weight)
    assert float(fused.detach()) == pytest.approx(float(wanted.detach()), rel=2e-3)
    assert worst(gradients(model, fused), exact) < 3e-2  # bf16 has 8 bits


def test_what_exceeds_the_context_is_cut():
    batch = make_batch(random_group(100, (300, 50), 40), context=256)
    assert [len(s) for s in batch.segments] == [100, 150, 49] and int(batch.rows.max()) < batch.tokens


def test_checkpoint_round_trip(tmp_path):
    model, ids = tiny_model(), torch.arange(40)
    save_checkpoint(model, TINY, tmp_path)
    again = load_checkpoint(tmp_path)
    assert again.config == TINY and torch.equal(model(ids), again(ids))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "exaone" and config["tie_word_embeddings"] and config["rope_scaling"] is None
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


def test_same_logits_as_transformers_llama(tmp_path):
    """EXAONE 3.5 is Llama with other names: an implementation that is not ours must agree."""
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file

    model, ids = tiny_model(), torch.randint(0, 512, (200,), generator=torch.Generator().manual_seed(1))
    save_checkpoint(model, TINY, tmp_path)
    names = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm", "transformer.h.": "model.layers.",
             "ln_1": "input_layernorm", "ln_2": "post_attention_layernorm", "attn.attention.out_proj": "self_attn.o_proj",
             "attn.attention.": "self_attn.", "c_fc_0": "gate_proj", "c_fc_1": "up_proj", "c_proj": "down_proj"}
    tensors = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for old, new in names.items():
            name = name.replace(old, new)
        tensors[name] = tensor
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
        head_dim=32, rms_norm_eps=1e-5, tie_word_embeddings=True, max_position_embeddings=512))
    missing, unexpected = llama.load_state_dict(tensors, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    with torch.no_grad():
        assert (llama(ids[None]).logits[0] - model(ids)).abs().max() < 1e-4


def test_shares_keep_every_item_and_balance():
    groups = [random_group(350, (300,) * 9, 10), random_group(130, (1700,), 10), random_group(350, (200,) * 6, 10)]
    shares = deal(groups, 2)
    total = sum(len(g["items"]) for g in groups)
    assert sum(len(g["items"]) for share in shares for g in share) == total
    costs = [sum(map(cost, share)) for share in shares]
    assert min(costs) > 0.8 * max(costs)


def test_schedule_warms_up_and_ends_at_a_twentieth():
    assert learning_rate(1.0, 0.02) == pytest.approx(1) and learning_rate(1.0, 1.0) == pytest.approx(0.05)
    assert 0 < learning_rate(1.0, 0.0) < learning_rate(1.0, 0.01) < 1


def test_learns_to_copy(tmp_path):
    config = Config(vocab_size=64, num_layers=2, hidden_size=64, intermediate_size=96, max_position_embeddings=128)
    torch.manual_seed(0)
    trainer = Trainer(Exaone(config), argparse.Namespace(threads=2, lr=4e-3, ema=True, out=str(tmp_path)))
    rng = np.random.default_rng(0)

    def copying_group() -> dict:
        items = []
        for _ in range(48):
            half = rng.integers(0, 64, 12, dtype=np.int32)
            weight = np.concatenate((np.zeros(13, np.float32), np.ones(11, np.float32)))
            items.append({"ids": np.concatenate((half, half)), "weight": weight})
        return {"prefix": rng.integers(0, 64, 4, dtype=np.int32), "items": items}

    losses = [trainer.step([copying_group()], 4e-3 * min(1, (s + 1) / 50)) for s in range(250)]
    assert losses[0] > 3.5 and np.mean(losses[-20:]) < 0.3
    trainer.save()
    batch = make_batch(copying_group())
    assert float(reference_loss(load_checkpoint(tmp_path), batch, batch.total_weight).detach()) < 0.5
