"""Runs an export the way the daemon does: one KV block per layer and side, requests bound to views of its slots."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from .manifest import MANIFEST_FILE, MODEL_FILE


class SlotRunner:
    """An export with `slots` slots of `max_tokens` tokens each, on the CPU.

    `keys[layer]` and `values[layer]` are the KV blocks [slots, kv_heads, max_tokens, head_dim]; copying rows of them from
    one slot to another shares a prefix.
    """

    def __init__(self, folder: Path, slots: int, max_tokens: int, threads: int = 0):
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"])
        block = (slots, manifest["kv_heads"], max_tokens, manifest["head_dim"])
        self._kv_type = np.dtype(manifest["kv_type"])
        self.keys = [np.zeros(block, self._kv_type) for _ in range(manifest["layers"])]
        self.values = [np.zeros(block, self._kv_type) for _ in range(manifest["layers"])]

    def run(
        self, input_ids: Sequence[Sequence[int]], pasts: Sequence[int], first_slot: int = 0, wanted: Sequence[int] | None = None
    ) -> np.ndarray:
        """Feeds row r of `input_ids` [rows, tokens] to slot `first_slot + r`, which holds `pasts[r]` tokens already.

        Returns float32 logits of the flat rows `wanted`; by default those of every slot's last token.
        """
        ids = np.array(input_ids, np.int64)
        rows, length = ids.shape
        flat = [row * length + length - 1 for row in range(rows)] if wanted is None else wanted
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("seqlens_k", np.array([past + length - 1 for past in pasts], np.int32))
        binding.bind_cpu_input("total_sequence_length", np.array(max(pasts) + length, np.int32))
        binding.bind_cpu_input("logits_idx", np.array(flat, np.int64))
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            for side, block in (("key", keys), ("value", values)):
                self._bind(binding, f"{layer}.{side}", block[first_slot : first_slot + rows])
        binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()

    def copy_prefix(self, source: int, target: int, tokens: int) -> None:
        """Gives slot `target` the first `tokens` tokens of slot `source`."""
        for block in (*self.keys, *self.values):
            block[target, :, :tokens] = block[source, :, :tokens]

    def _bind(self, binding: onnxruntime.IOBinding, name: str, view: np.ndarray) -> None:
        """Binds past and present to the same memory: the attention operator then appends in place."""
        place = ("cpu", 0, self._kv_type, view.shape, view.ctypes.data)
        binding.bind_input(f"past_key_values.{name}", *place)
        binding.bind_output(f"present.{name}", *place)
