"""Attention as PyTorch computes it on the processor, at the shapes of `posenc bench --only attention`: scaled_dot_product_attention without a bias, with one, causal, behind a cache; forward, and forward and back.

A bias is ALiBi's matrix, made before: PyTorch reads a matrix where posenc reads positions. With `back` it has a gradient, as T5's has. Each row is the median over the rounds with its range, and the ratio to square
products of as many operations (2 · 1024³ each) that ran in turn with it; behind a cache, to a sum over its keys and values.

    pip install torch transformers
    python bench/attention.py [--threads 1] [--rounds 9] [--only TEXT]
"""
import torch, torch.nn.functional as F
from measured import args, row

HEADS, LENGTH, CACHE, SIDE = 16, 2048, 8192, 1024
a, b, c = (torch.rand(SIDE, SIDE) for _ in range(3))


def products(operations):
    times = round(operations / (2 * SIDE**3))
    return lambda: [torch.mm(a, b, out=c) for _ in range(times)]


def bias(heads, length):
    at = torch.arange(length)
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    return -slopes[:, None, None] * (at[None, :] - at[:, None]).abs()[None]


def both(q, k, v, **more):
    out = F.scaled_dot_product_attention(q, k, v, **more)
    out.backward(q.detach())
    for x in (q, k, v, more.get("attn_mask")):
        if x is not None:
            x.grad = None


def main():
    print(f"torch {torch.__version__}, {args.threads} threads")
    sdpa = F.scaled_dot_product_attention
    for d in (64, 128, 32):
        shape = (1, HEADS, LENGTH, d)
        operations = 4 * HEADS * LENGTH * LENGTH * d
        q, k, v = (torch.randn(shape) for _ in range(3))
        matrix = bias(HEADS, LENGTH)[None]
        with torch.no_grad():
            row("attention, prompt", "f32", shape, lambda: sdpa(q, k, v), products(operations), "products")
            if d == 64:
                row("attention, bias", "f32", shape, lambda: sdpa(q, k, v, attn_mask=matrix), products(operations), "products")
                row("attention, causal", "f32", shape, lambda: sdpa(q, k, v, is_causal=True), products(operations), "products")
        if d == 64:
            q, k, v, matrix = (x.requires_grad_() for x in (q, k, v, matrix))
            all_products = products(operations * 7 // 2)
            row("attention and back", "f32", shape, lambda: both(q, k, v), all_products, "products")
            row("attention and back, bias", "f32", shape, lambda: both(q, k, v, attn_mask=matrix), all_products, "products")
    with torch.no_grad():
        for batch in (1, 8):
            shape = (batch, HEADS, CACHE, 64)
            q, k, v = torch.randn(batch, HEADS, 1, 64), torch.randn(shape), torch.randn(shape)
            row("attention behind a cache", "f32", shape, lambda: sdpa(q, k, v), lambda: (k.sum(), v.sum()), "read")


main()
