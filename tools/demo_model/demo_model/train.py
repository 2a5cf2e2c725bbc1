"""Trains the demo model for a given number of minutes on two CPU cores: `python -m demo_model.train --out DIR --minutes M`."""

import argparse
import concurrent.futures
import ctypes
import math
import multiprocessing
import os
import pathlib
import queue
import signal
import sys
import time

import torch

from .fused import batch_loss, kernels
from .model import Config, Exaone, load_checkpoint, make_batch, save_checkpoint
from .samples import training_groups
from .tokenizer import FOLDER

LOG_SECONDS, SAVE_SECONDS = 20, 600


# ---- groups: made in one background process ---------------------------------------------------------------------------


def generate(seed: int, mix: tuple, out: multiprocessing.Queue) -> None:
    """Body of the background process: fills the queue, and ends when the trainer is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    parent = os.getppid()
    for group in training_groups(seed, *mix):
        while True:
            try:
                out.put(group, timeout=5)
                break
            except queue.Full:
                if os.getppid() != parent:
                    os._exit(0)


class Groups:
    """The infinite stream of usable groups coming out of the background process."""

    def __init__(self, seed: int, mix: tuple):
        # spawn: a fork would copy torch's thread pools in an unusable state.
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(48)
        self._process = context.Process(target=generate, args=(seed, mix, self._queue), daemon=True)
        self._process.start()
        self.waited = 0.0

    def __next__(self) -> dict:
        begin = time.monotonic()
        while True:
            try:
                group = self._queue.get(timeout=1)
            except queue.Empty:
                if not self._process.is_alive():
                    raise RuntimeError("the process that makes the training groups has died (its error is above)") from None
                continue
            items = [item for item in group["items"] if (item["weight"] > 0).any()]
            if items:
                self.waited += time.monotonic() - begin
                return {"prefix": group["prefix"], "items": items}

    def step(self, tokens: int) -> list[dict]:
        """Groups for one optimiser step, about `tokens` in all (within half a group)."""
        groups, total, last = [], 0, 0
        while not groups or total + last / 2 < tokens:
            groups.append(next(self))
            last = cost(groups[-1])
            total += last
        return groups

    def close(self) -> None:
        self._process.terminate()
        self._process.join(5)


def cost(group: dict) -> int:
    return len(group["prefix"]) + sum(len(item["ids"]) for item in group["items"])


def deal(groups: list[dict], workers: int) -> list[list[dict]]:
    """Shares of about equal cost; a group may be cut between two items where that saves more than its prefix costs twice."""
    pending, shares = list(groups), []
    for remaining in range(workers, 1, -1):
        room, share = sum(map(cost, pending)) / remaining, []
        while pending and cost(pending[0]) <= room + len(pending[0]["prefix"]):
            share.append(pending.pop(0))
            room -= cost(share[-1])
        if pending:
            prefix, items = pending[0]["prefix"], pending[0]["items"]
            taken = 0
            while taken < len(items) - 1 and cost({"prefix": prefix, "items": items[: taken + 1]}) <= room:
                taken += 1
            if taken:
                share.append({"prefix": prefix, "items": items[:taken]})
                pending[0] = {"prefix": prefix, "items": items[taken:]}
            elif not share:
                share.append(pending.pop(0))
        shares.append(share)
    return [*shares, pending]


# ---- weights: one flat fp32 buffer, its bf16 twin, one replica of the graph's leaves per worker ------------------------


class Weights:
    """The master weights as one flat buffer (matrices first), so that clipping, AdamW and EMA are single calls."""

    def __init__(self, model: Exaone):
        named = sorted(model.named_parameters(), key=lambda pair: pair[1].dim() != 2)
        self.names = [name for name, _ in named]
        self.shapes = [parameter.shape for _, parameter in named]
        self.decayed = sum(parameter.numel() for _, parameter in named if parameter.dim() == 2)
        self.flat = torch.cat([parameter.detach().flatten() for _, parameter in named])
        self.twin = self.flat.to(torch.bfloat16)
        self.attach(model, self.flat)

    def views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        parts = flat.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes)]

    def attach(self, model: Exaone, flat: torch.Tensor) -> None:
        parameters = dict(model.named_parameters())
        for name, view in zip(self.names, self.views(flat)):
            parameters[name].data = view

    def refresh(self) -> None:
        self.twin.copy_(self.flat)


class Worker:
    """A replica on the shared weights with gradients of its own: one single-threaded worker per core beats
    one model on two threads, above all when something else runs on the machine (one meeting a step instead of hundreds)."""

    def __init__(self, weights: Weights, config: Config):
        self.model = Exaone(config)
        weights.attach(self.model, weights.flat)
        self.gradient = torch.zeros_like(weights.flat)
        self._gradient_views = weights.views(self.gradient)
        parameters = dict(self.model.named_parameters())
        self._leaves = []
        for name, twin in zip(weights.names, weights.views(weights.twin)):
            parameter = parameters[name]
            if kernels(config) and parameter.dim() == 2:
                # The embedding is also looked up in fp32, so its own gradient stays there; its twin only reads.
                parameter.twin = twin.detach().requires_grad_(name != "wte")
                self._leaves.append(parameter if name == "wte" else parameter.twin)
            else:
                self._leaves.append(parameter)

    def run(self, groups: list[dict], total_weight: float) -> tuple[float, int]:
        """Gradient of this worker's share of the step's loss; returns (loss share, tokens)."""
        loss, tokens = 0.0, 0
        for leaf in self._leaves:
            leaf.grad = None
        for group in groups:
            batch = make_batch(group, self.model.config.max_position_embeddings)
            part = batch_loss(self.model, batch, total_weight)
            part.backward()
            loss, tokens = loss + part.item(), tokens + batch.tokens
        for leaf, view in zip(self._leaves, self._gradient_views):
            view.zero_() if leaf.grad is None else view.copy_(leaf.grad)
        return loss, tokens


# ---- the run ------------------------------------------------------------------------------------------------------------


def learning_rate(peak: float, progress: float) -> float:
    """Warm-up over the first 2 % of the time, then a cosine down to 5 % of the peak at the very end."""
    if progress < 0.02:
        return peak * max(progress / 0.02, 0.01)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.02) / 0.98))))


class Trainer:
    """Everything a run needs: weights, workers, optimiser, schedule, checkpoints."""

    def __init__(self, model: Exaone, options: argparse.Namespace):
        self.model, self.options = model, options
        self.weights = Weights(model)
        self.workers = [Worker(self.weights, model.config) for _ in range(options.threads)]
        self.pool = concurrent.futures.ThreadPoolExecutor(
            options.threads, initializer=lambda: (torch.set_num_threads(1), torch.set_flush_denormal(True)))
        matrices, norms = self.weights.flat.split([self.weights.decayed, len(self.weights.flat) - self.weights.decayed])
        self.targets = [torch.nn.Parameter(matrices), torch.nn.Parameter(norms)]
        self.optimiser = torch.optim.AdamW(
            [{"params": [self.targets[0]], "weight_decay": 0.1}, {"params": [self.targets[1]], "weight_decay": 0.0}],
            lr=options.lr, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.average = self.weights.flat.clone() if options.ema else None
        self.steps = self.tokens = 0

    def step(self, groups: list[dict], rate: float) -> float:
        total = sum(float(item["weight"].clip(0).sum()) for group in groups for item in group["items"])
        shares = deal(groups, len(self.workers))
        results = list(self.pool.map(lambda pair: pair[0].run(pair[1], total), zip(self.workers, shares)))
        gradient = self.workers[0].gradient
        for worker in self.workers[1:]:
            gradient.add_(worker.gradient)
        loss, norm = sum(r[0] for r in results), float(gradient.norm())
        self.tokens += sum(r[1] for r in results)
        self.steps += 1
        if math.isfinite(norm) and math.isfinite(loss):
            self._update(gradient, norm, rate)
        else:
            print(f"step {self.steps}: loss {loss}, gradient {norm}: skipped", flush=True)
        return loss

    def _update(self, gradient: torch.Tensor, norm: float, rate: float) -> None:
        if norm > 1:
            gradient.mul_(1 / norm)
        for target, part in zip(self.targets, gradient.split([len(t) for t in self.targets])):
            target.grad = part
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.weights.refresh()
        if self.average is not None:
            # Early on the average would remember the random start for too long.
            decay = min(0.999, (1 + self.steps) / (10 + self.steps))
            self.average.lerp_(self.weights.flat, 1 - decay)

    def save(self) -> None:
        flat = self.weights.flat if self.average is None else self.average
        self.weights.attach(self.model, flat)
        save_checkpoint(self.model, self.model.config, self.options.out)
        print(f"saved {self.options.out} at step {self.steps}", flush=True)


def train(trainer: Trainer, groups: Groups, options: argparse.Namespace) -> None:
    """Runs until the time is over or a signal asks to stop; always leaves a checkpoint."""
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    ready = groups.step(options.tokens_per_step)
    begin = logged = saved = time.monotonic()
    limit, losses, tokens, waited = options.minutes * 60, [], 0, groups.waited
    while not stopped and (now := time.monotonic()) - begin < limit:
        rate = learning_rate(options.lr, (now - begin) / limit)
        losses.append(trainer.step(ready, rate))
        ready = groups.step(options.tokens_per_step)
        now = time.monotonic()
        if now - logged >= LOG_SECONDS:
            print(f"step {trainer.steps} tokens {trainer.tokens / 1e6:.2f}M {(trainer.tokens - tokens) / (now - logged):.0f}/s "
                  f"loss {sum(losses) / len(losses):.4f} lr {rate:.2e} left {(limit - now + begin) / 60:.1f} min"
                  f" waited {groups.waited - waited:.1f} s", flush=True)
            logged, losses, tokens, waited = now, [], trainer.tokens, groups.waited
        if now - saved >= SAVE_SECONDS:
            trainer.save()
            saved = now
    if losses:
        print(f"end: step {trainer.steps} tokens {trainer.tokens / 1e6:.2f}M loss {sum(losses) / len(losses):.4f}", flush=True)
    trainer.save()


def config_from_tokenizer(path: pathlib.Path) -> Config:
    from tokenizers import Tokenizer

    if not path.is_file():
        sys.exit(f"no tokenizer at {path}: train the tokenizer first, or name its file with --tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    ids = {role: tokenizer.token_to_id(text) for role, text in (("bos", "[BOS]"), ("eos", "[|endofturn|]"), ("pad", "[PAD]"))}
    if None in ids.values():
        sys.exit(f"{path} lacks one of the markers [BOS], [|endofturn|], [PAD]")
    # The kernels work on whole vectors of 16: unused rows at the end are never predicted.
    size = -(-tokenizer.get_vocab_size(with_added_tokens=True) // 16) * 16
    return Config(vocab_size=size, bos_token_id=ids["bos"], eos_token_id=ids["eos"], pad_token_id=ids["pad"])


def options_from(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo_model.train", description=__doc__)
    parser.add_argument("--out", required=True, help="folder of the checkpoint")
    parser.add_argument("--minutes", type=float, required=True, help="the schedule ends, fully annealed, after this time")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=FOLDER / "tokenizer.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", help="checkpoint folder to take the weights from; the schedule starts afresh")
    parser.add_argument("--mix", type=float, nargs=3, default=[0.10, 0.08, 2400], metavar=("NARRATIVES", "COPIES", "FIRST"),
                        help="shares of narrative and copying groups, and how many copying groups come first")
    parser.add_argument("--tokens-per-step", type=int, default=8000)
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--ema", action="store_true", help="average the weights and save the average")
    return parser.parse_args(arguments)


def keep_memory() -> None:
    """Makes glibc reuse the big buffers of each group instead of returning and refaulting them (a few per cent, measured once)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for setting, value in ((-8, 1), (-3, 32 << 20), (-1, 2**31 - 1)):  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        mallopt(setting, value)


def main(arguments: list[str] | None = None) -> None:
    options = options_from(arguments)
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    config = config_from_tokenizer(options.tokenizer)
    model = load_checkpoint(options.resume) if options.resume else Exaone(config)
    if model.config.vocab_size != config.vocab_size:
        sys.exit(f"{options.resume} has {model.config.vocab_size} tokens, the tokenizer {config.vocab_size}")
    path = "fused bf16 kernels" if kernels(model.config) else "plain fp32 torch (no AVX512-BF16 or no g++)"
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters, {options.threads} workers, {path}", flush=True)
    groups = Groups(options.seed, tuple(options.mix))
    try:
        train(Trainer(model, options), groups, options)
    finally:
        groups.close()


if __name__ == "__main__":
    main()
