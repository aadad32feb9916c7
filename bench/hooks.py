"""The hooks of `posenc bench` as PyTorch and transformers compute them on the processor: the same shapes, in milliseconds.

Rotation as transformers' Llama, T5's bias by its own class, ALiBi and learned tables in tensor operations, tables of cosines and sines as Llama's.
Each row is the median over the rounds with its range, and the ratio to a copy of the same bytes (or a fill) that ran in turn with it.

    pip install torch transformers
    python bench/hooks.py [--threads 1] [--rounds 9] [--only TEXT]
"""
import torch, torch.nn.functional as F
from measured import args, row
from transformers import LlamaConfig, T5Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, rotate_half
from transformers.models.t5.modeling_t5 import T5Attention

@torch.no_grad()
def main():
    print(f"torch {torch.__version__}, {args.threads} threads")
    rotary = LlamaRotaryEmbedding(LlamaConfig(hidden_size=4096, num_attention_heads=32, max_position_embeddings=131072))
    for stored, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        for name, shape in (("rotation, prompt", (1, 32, 2048, 128)), ("rotation, one new token", (8, 32, 1, 128))):
            q, to = torch.rand(shape, dtype=dtype), torch.ones(shape, dtype=dtype)
            cos, sin = (table.unsqueeze(1) for table in rotary(q, torch.arange(shape[2])[None]))
            row(name, stored, shape, lambda: q * cos + rotate_half(q) * sin, lambda: to.copy_(q), "copy")

    shape = (8, 1024, 768)
    x, y, table, ids = torch.rand(shape), torch.rand(shape), torch.rand(shape[1:]), torch.arange(shape[1])[None]
    row("learned table, new memory", "f32", shape, lambda: x + F.embedding(ids, table), lambda: y.copy_(x), "copy")
    row("learned table, in place", "f32", shape, lambda: x.add_(F.embedding(ids, table)), lambda: y.copy_(x), "copy")

    heads, length = 16, 2048
    shape, to = (heads, length, length), torch.ones(heads, length, length)
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)

    def alibi():
        at = torch.arange(length)
        return slopes[:, None, None] * (at[None, :] - at[:, None])

    row("ALiBi", "f32", shape, alibi, lambda: to.fill_(0.0), "fill")
    t5 = T5Attention(T5Config(num_heads=heads, d_model=1024, d_kv=64), has_relative_attention_bias=True, layer_idx=0)
    row("T5's bias", "f32", shape, lambda: t5.compute_bias(length, length), lambda: to.fill_(0.0), "fill")

    length = 131072
    at, x, to = torch.arange(length)[None], torch.ones(1), torch.ones(length, 2 * 64)
    # Llama's tables hold each number twice; the fill writes each once.
    row("cosines and sines", "f32", (length, 64), lambda: rotary(x, at), lambda: to.fill_(0.0), "fill")


main()
