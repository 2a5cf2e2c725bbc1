"""Runs an exported model on ONNX Runtime as the daemon does: slots, prefill chunks, joint greedy decode under a grammar."""

import json

import numpy as np
import onnxruntime as ort
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, apply_token_bitmask_inplace, fill_next_token_bitmask

LEVEL_FOLLOWS = b'"level":'


class Model:
    """An exported folder with `slots` KV slots of `context` tokens."""

    def __init__(self, folder, slots, context, threads=2):
        self.manifest = json.loads((folder / "model.json").read_text("utf-8"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        m = self.manifest
        shape = (slots, m["kv_heads"], context, m["head_dim"])
        self.context = context
        self.kv = {f"{layer}.{side}": np.zeros(shape, np.float32) for layer in range(m["layers"]) for side in ("key", "value")}

    def run(self, ids, past, first, wanted):
        """ids [B,S] for slots first..first+B that hold `past` tokens each → logits of the flat rows `wanted`."""
        rows, new = ids.shape
        binding = self.session.io_binding()
        total = np.array(self.context if new == 1 or rows == 1 else new, np.int32)
        feeds = {"input_ids": ids.astype(np.int64), "seqlens_k": np.array([p + new - 1 for p in past], np.int32),
                 "total_sequence_length": total, "logits_idx": np.array(wanted, np.int64)}
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        for name, block in self.kv.items():
            view = ort.OrtValue.ortvalue_from_numpy(block[first : first + rows])
            binding.bind_ortvalue_input(f"past_key_values.{name}", view)
            binding.bind_ortvalue_output(f"present.{name}", view)
        binding.bind_output("logits", "cpu")
        self.session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]


class Sequence:
    """One prompt, its grammar and what has been written so far."""

    def __init__(self, prompt, grammar, room, tokenizer):
        self.pending, self.room, self.tokenizer = list(prompt), room, tokenizer
        self.matcher = LLMatcher(tokenizer.ll, grammar)
        if self.matcher.is_error():
            raise ValueError(self.matcher.get_error())
        self.past, self.written, self.levels, self.at_level = 0, [], [], False
        self.logits = None
        self.force()

    def force(self):
        """Appends what the grammar forces, tokenised on its own, to what is to be fed."""
        forced = self.matcher.compute_ff_bytes()
        try:
            ids = self.tokenizer.encode(forced.decode()) if forced else []
        except UnicodeDecodeError:
            return
        if ids:
            self.take(ids)
            self.at_level = forced.endswith(LEVEL_FOLLOWS)

    def take(self, ids):
        self.matcher.consume_tokens(ids)
        self.written += ids
        self.pending += ids
        self.at_level = False

    def choose(self, logits, mask):
        """Takes the best allowed token; at a level step keeps the distribution over 1–5."""
        if self.at_level:
            digits = logits[self.tokenizer.digits]
            p = np.exp(digits - digits.max())
            self.levels.append(p / p.sum())
        fill_next_token_bitmask(self.matcher, mask)
        apply_token_bitmask_inplace(logits, mask)
        token = int(np.argmax(logits))
        if token != self.tokenizer.end:
            self.take([token])
            self.force()

    @property
    def done(self):
        return self.matcher.is_stopped() or len(self.written) >= self.room

    @property
    def text(self):
        return self.tokenizer.decode(self.written)


class Tokenizer:
    """The tokenizer as the grammar engine needs it."""

    def __init__(self, path):
        from tokenizers import Tokenizer as Plain

        self.plain = Plain.from_file(str(path))
        self.plain.encode_special_tokens = True
        self.end = self.plain.token_to_id("[|endofturn|]")
        self.ll = LLTokenizer(str(path), eos_token=self.end)
        self.digits = [self.plain.token_to_id(d) for d in "12345"]

    def encode(self, text):
        return self.plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.plain.decode(ids, skip_special_tokens=False)


def generate(model, sequences, slots):
    """Writes all `sequences`, at most `slots` at once; idle slots are parked on a dummy row."""
    mask = allocate_token_bitmask(1, model.manifest["vocab"])
    waiting, active = list(sequences), [None] * slots
    while waiting or any(active):
        for slot in range(slots):
            if active[slot] is None and waiting:
                active[slot] = waiting.pop(0)
        for slot, sequence in enumerate(active):
            if sequence and len(sequence.pending) > 1:  # a prompt, or forced tokens: one chunk
                _feed(model, sequence, slot)
        ready = [(i, s) for i, s in enumerate(active) if s and s.pending]
        if ready:
            ids = np.zeros((slots, 1), np.int64)
            past = [model.context - 1] * slots
            for i, s in ready:
                ids[i, 0], past[i] = s.pending[0], s.past
            logits = model.run(ids, past, 0, list(range(slots)))
            for i, s in ready:
                s.past, s.pending, s.logits = s.past + 1, [], logits[i]
        for slot, sequence in enumerate(active):
            if sequence and sequence.logits is not None:
                sequence.choose(sequence.logits, mask)
                sequence.logits = None
                if sequence.done:
                    active[slot] = None


def _feed(model, sequence, slot):
    ids = np.array([sequence.pending])
    logits = model.run(ids, [sequence.past], slot, [ids.shape[1] - 1])
    sequence.past, sequence.pending, sequence.logits = sequence.past + ids.shape[1], [], logits[0]
