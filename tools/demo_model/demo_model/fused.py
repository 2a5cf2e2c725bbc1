"""A training step several times faster than plain torch: bf16 matmuls by oneDNN, everything between them by kernels.cpp."""

import ctypes
import hashlib
import os
import pathlib
import subprocess
import tempfile

import torch
import torch.nn.functional as F

from .model import Batch, Config, Exaone, positions, reference_loss

SOURCE = pathlib.Path(__file__).with_name("kernels.cpp")


def batch_loss(model: Exaone, batch: Batch, total_weight: float) -> torch.Tensor:
    """`reference_loss`, by the fused kernels where this machine and shape have them."""
    library = kernels(model.config)
    if library is None:
        return reference_loss(model, batch, total_weight)
    return fused_loss(model, library, batch, total_weight)


def fused_loss(model: Exaone, library: ctypes.CDLL, batch: Batch, total_weight: float) -> torch.Tensor:
    c = model.config
    layout = Layout(library, c, [len(s) for s in batch.segments])
    rope = (model.cos, model.sin)
    x, delta = F.embedding(padded(torch.cat(batch.segments)).long(), model.wte), None
    rows, targets, weights = padded(batch.rows), padded(batch.targets), padded(batch.weights / total_weight)
    for number, block in enumerate(model.blocks):
        x, y = AddNorm.apply(x, delta, block.ln_1, layout)
        mixed = Attention.apply(linear(y, block.qkv), layout, *rope)
        if number == c.num_layers - 1:
            # Behind the last attention only the rows that predict something are needed: about half of them.
            x, mixed = x[rows], mixed[rows]
        x, y = AddNorm.apply(x, linear(mixed, block.out), block.ln_2, layout)
        delta = linear(SwiGlu.apply(linear(y, block.gate_up), layout), block.down)
    _, y = AddNorm.apply(x, delta, model.ln_f, layout)
    return Head.apply(y, model.wte, half(model.wte).detach(), targets, weights, layout)


def padded(values: torch.Tensor) -> torch.Tensor:
    """Zeros up to a multiple of 128: oneDNN builds and keeps code for every shape it meets, so there must be few of them.
    Padding rows reach no real row (attention skips them) and carry no weight, so loss and gradients stay the same."""
    return F.pad(values, (0, -len(values) % 128))


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x, half(weight))


def half(weight: torch.Tensor) -> torch.Tensor:
    """The bf16 twin of a weight: the trainer hangs one on it that it refreshes once a step, otherwise it is cast here."""
    twin = getattr(weight, "twin", None)
    return weight.to(torch.bfloat16) if twin is None else twin


class Layout:
    """What the kernels need to know about a group's rows."""

    def __init__(self, library: ctypes.CDLL, config: Config, lengths: list[int]):
        self.library, self.config, self.real = library, config, sum(lengths)
        self.position = padded(positions(lengths))
        self.rows = len(self.position)
        self.prefix, self.items = lengths[0], len(lengths) - 1
        self.lengths = torch.tensor(lengths[1:], dtype=torch.int32)


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    assert tensor is None or tensor.is_contiguous()
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def long(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


class AddNorm(torch.autograd.Function):
    """(x + delta, its RMS norm): the residual stream stays fp32, what enters the matmuls is bf16."""

    @staticmethod
    def forward(ctx, x, delta, weight, layout):
        rows, width = x.shape
        total = torch.empty_like(x)
        y, scale = torch.empty(rows, width, dtype=torch.bfloat16), torch.empty(rows)
        layout.library.add_norm_forward(
            address(x), address(delta), address(weight), long(rows), long(width),
            ctypes.c_float(layout.config.layer_norm_epsilon), address(total), address(y), address(scale))
        ctx.save_for_backward(total, scale, weight)
        ctx.layout, ctx.has_delta = layout, delta is not None
        ctx.set_materialize_grads(False)
        return total, y

    @staticmethod
    def backward(ctx, grad_total, grad_y):
        total, scale, weight = ctx.saved_tensors
        grad_y = grad_y.contiguous()
        grad_total = None if grad_total is None else grad_total.contiguous()
        grad_x, grad_weight = torch.empty_like(total), torch.empty_like(weight)
        grad_delta = torch.empty_like(grad_y) if ctx.has_delta else None
        ctx.layout.library.add_norm_backward(
            address(total), address(scale), address(weight), address(grad_total), address(grad_y),
            long(len(total)), long(total.shape[1]), address(grad_x), address(grad_delta), address(grad_weight))
        return grad_x, grad_delta, grad_weight, None


class Attention(torch.autograd.Function):
    """RoPE and prefix-shared causal attention on packed q/k/v rows; the input buffer is rotated in place."""

    @staticmethod
    def forward(ctx, packed, layout, cos, sin):
        c, library = layout.config, layout.library
        heads = c.num_attention_heads + c.num_key_value_heads
        rope = [long(layout.rows), long(packed.shape[1]), heads, address(layout.position), address(cos), address(sin)]
        library.rope(address(packed), *rope, ctypes.c_float(1))
        out = torch.empty(layout.rows, c.num_attention_heads * c.head_dim, dtype=torch.bfloat16)
        lse = torch.empty(layout.rows, c.num_attention_heads)
        shape = [c.num_key_value_heads, layout.prefix, layout.items, address(layout.lengths)]
        library.attention_forward(address(packed), *shape, address(out), address(lse))
        out[layout.real :] = 0  # the kernels leave padding rows alone
        ctx.save_for_backward(packed, out, lse)
        ctx.library, ctx.rope, ctx.shape, ctx.layout = library, rope, shape, layout
        return out

    @staticmethod
    def backward(ctx, grad):
        packed, out, lse = ctx.saved_tensors
        grad_packed, grad = torch.empty_like(packed), grad.contiguous()
        ctx.library.attention_backward(
            address(packed), address(out), address(lse), address(grad), *ctx.shape, address(grad_packed))
        grad_packed[ctx.layout.real :] = 0
        ctx.library.rope(address(grad_packed), *ctx.rope, ctypes.c_float(-1))
        return grad_packed, None, None, None


class SwiGlu(torch.autograd.Function):
    """silu(gate) * up of packed gate/up rows."""

    @staticmethod
    def forward(ctx, packed, layout):
        rows, width = packed.shape
        out = torch.empty(rows, width // 2, dtype=torch.bfloat16)
        layout.library.swiglu_forward(address(packed), long(rows), long(width // 2), address(out))
        ctx.save_for_backward(packed)
        ctx.library = layout.library
        return out

    @staticmethod
    def backward(ctx, grad):
        (packed,) = ctx.saved_tensors
        grad, grad_packed = grad.contiguous(), torch.empty_like(packed)
        rows, width = packed.shape
        ctx.library.swiglu_backward(address(packed), address(grad), long(rows), long(width // 2), address(grad_packed))
        return grad_packed, None


class Head(torch.autograd.Function):
    """Weighted cross entropy through the tied head; the gradients are computed at once, while the logits are in the cache."""

    CHUNK = 1024

    @staticmethod
    def forward(ctx, y, table, table16, targets, weights, layout):
        grad_y, grad_table, losses = torch.empty_like(y), None, torch.empty(len(y))
        for start in range(0, len(y), Head.CHUNK):
            part = slice(start, start + Head.CHUNK)
            logits = F.linear(y[part], table16)
            layout.library.cross_entropy(
                address(logits), long(len(logits)), long(logits.shape[1]),
                address(targets[part]), address(weights[part]), address(losses[part]))
            grad_y[part] = logits @ table16
            share = (y[part].t() @ logits).t()
            grad_table = share.float() if grad_table is None else grad_table.add_(share)
        ctx.save_for_backward(grad_y, grad_table)
        return losses.sum()

    @staticmethod
    def backward(ctx, grad):
        grad_y, grad_table = ctx.saved_tensors
        if grad != 1:
            grad_y, grad_table = grad_y * grad, grad_table * grad
        return grad_y, grad_table, None, None, None, None


_libraries: dict[tuple[int, int], ctypes.CDLL | None] = {}


def kernels(config: Config) -> ctypes.CDLL | None:
    """The kernels compiled for this head size, or None where compiler, processor or shape don't fit (or DEMO_MODEL_PLAIN is set)."""
    group, dim = config.num_attention_heads // config.num_key_value_heads, config.head_dim
    if os.environ.get("DEMO_MODEL_PLAIN") or dim % 32 or config.hidden_size % 16 or config.intermediate_size % 16 \
            or config.vocab_size % 16 or group > 4:
        return None
    if (group, dim) not in _libraries:
        _libraries[group, dim] = _compile(group, dim)
    return _libraries[group, dim]


def _compile(group: int, dim: int) -> ctypes.CDLL | None:
    try:
        if "avx512_bf16" not in pathlib.Path("/proc/cpuinfo").read_text("utf-8"):
            return None
        flags = ["-O3", "-march=native", "-ffast-math", "-fno-strict-aliasing", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-w",
                 f"-DHEAD_DIM={dim}", f"-DGROUP={group}"]
        name = hashlib.sha256(repr((flags, SOURCE.read_text("utf-8"))).encode()).hexdigest()[:16]
        folder = pathlib.Path(tempfile.gettempdir()) / f"demo_model_kernels_{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return None
        built = folder / f"{name}.so"
        if not built.exists():
            fresh = folder / f"{name}.{os.getpid()}.so"
            subprocess.run(["g++", *flags, str(SOURCE), "-o", str(fresh)], check=True)
            fresh.rename(built)
        # torch has loaded its own libgomp by now, and the library takes that one: one thread pool, not two that fight.
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no fused kernels, training will be several times slower: {error}", flush=True)
        return None
