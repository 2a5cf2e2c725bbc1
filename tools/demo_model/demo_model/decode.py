"""Runs an exported model on ONNX Runtime as the daemon does: slots, prefill chunks, joint greedy decode under a grammar."""

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, apply_token_bitmask_inplace, fill_next_token_bitmask

LEVEL_FOLLOWS = b'level":'  # the quote mark before it may belong to the token that ended the evidence


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

    def fed(self, logits):
        """What was pending is in the slot now; `logits` are those of its last token."""
        self.past, self.pending, self.logits = self.past + len(self.pending), [], logits

    def choose(self, mask):
        """Takes the best allowed token; at a level step keeps the distribution over 1–5."""
        logits, self.logits = self.logits, None
        if self.at_level:
            digits = logits[self.tokenizer.digits]
            p = np.exp(digits - digits.max())
            self.levels.append(p / p.sum())
        fill_next_token_bitmask(self.matcher, mask)
        apply_token_bitmask_inplace(logits, mask)
        token = int(np.argmax(logits))
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
        self.ll = LLTokenizer(str(path), eos_token=self.plain.token_to_id("[|endofturn|]"))
        self.digits = [self.plain.token_to_id(d) for d in "12345"]

    def encode(self, text):
        return self.plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.plain.decode(ids, skip_special_tokens=False)


def generate(runner, sequences, slots, context):
    """Writes all `sequences` with an `exaone_export.runtime.SlotRunner`, at most `slots` at once; idle slots are parked on a dummy row."""
    vocab = sequences[0].tokenizer.plain.get_vocab_size()
    mask = allocate_token_bitmask(1, vocab)
    waiting, active = list(sequences), [None] * slots
    while waiting or any(active):
        for slot in range(slots):
            if active[slot] is None and waiting:
                active[slot] = waiting.pop(0)
        for slot, sequence in enumerate(active):
            if sequence and len(sequence.pending) > 1:  # a prompt, or forced tokens: one chunk
                sequence.fed(runner.run([sequence.pending], [sequence.past], slot)[0])
        ready = [(slot, s) for slot, s in enumerate(active) if s and s.pending]
        if ready:
            ids, past = [[0]] * slots, [context - 1] * slots
            for slot, s in ready:
                ids[slot], past[slot] = s.pending, s.past
            logits = runner.run(ids, past)
            for slot, s in ready:
                s.fed(logits[slot])
        for slot, sequence in enumerate(active):
            if sequence and sequence.logits is not None:
                sequence.choose(mask)
                if sequence.done:
                    active[slot] = None
