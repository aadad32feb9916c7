"""One training step of the small GPT of `posenc compare`, in PyTorch: the peer of `cargo run --release --example step -p posenc-lab`.

Pre-layer-norm, GELU, tied head, MLP of four times the width, AdamW, f32: data, forward, backward, clipping and optimiser, as the lab's own step. Two sizes:
`pilot` (2 layers, width 64, 4 heads, 80 tokens of vocabulary, length 64, batch 32) and `small` (4 layers, width 128, 4 heads, 256 tokens, length 256, batch 16).
Prints the median and the range over the measured steps.

    pip install torch
    python bench/gpt_step.py [--size pilot|small] [--encoding none|learned|rotary|alibi] [--threads 2] [--steps 200]
"""
import argparse, math, statistics, time
import torch, torch.nn as nn, torch.nn.functional as F

args = argparse.ArgumentParser()
args.add_argument("--size", default="pilot", choices=["pilot", "small"])
args.add_argument("--encoding", default="rotary", choices=["none", "learned", "rotary", "alibi"])
args.add_argument("--threads", type=int, default=2)
args.add_argument("--steps", type=int, default=200)
args = args.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
LAYERS, DIM, HEADS, MLP, VOCAB, LENGTH, BATCH = {"pilot": (2, 64, 4, 256, 80, 64, 32), "small": (4, 128, 4, 512, 256, 256, 16)}[args.size]
WARM_UP = max(5, args.steps // 10)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        d = DIM // HEADS
        angle = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)[None]
        self.register_buffer("cos", torch.cat([angle.cos()] * 2, -1), persistent=False)
        self.register_buffer("sin", torch.cat([angle.sin()] * 2, -1), persistent=False)
        i = torch.arange(LENGTH)
        slopes = 2.0 ** (-8.0 * torch.arange(1, HEADS + 1) / HEADS)
        bias = slopes[:, None, None] * (i[None, :] - i[:, None])
        self.register_buffer("bias", bias.masked_fill(i[None, :] > i[:, None], -math.inf), persistent=False)

    def rotate(self, x):
        a, b = x.chunk(2, -1)
        return x * self.cos + torch.cat([-b, a], -1) * self.sin

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        if args.encoding == "rotary":
            q, k = self.rotate(q), self.rotate(k)
        if args.encoding == "alibi":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, DIM))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(DIM), nn.LayerNorm(DIM), Attention()
        self.mlp = nn.Sequential(nn.Linear(DIM, MLP), nn.GELU(), nn.Linear(MLP, DIM))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, DIM)
        self.positions = nn.Embedding(LENGTH, DIM) if args.encoding == "learned" else None
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(DIM)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids):
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions.weight
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


model = Gpt()
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
text = torch.randint(0, VOCAB, (1_000_000,))
times = []
for step in range(args.steps + WARM_UP):
    begin = time.perf_counter()
    starts = torch.randint(0, len(text) - LENGTH - 1, (BATCH,))
    window = text[starts[:, None] + torch.arange(LENGTH + 1)[None]]
    loss = F.cross_entropy(model(window[:, :-1]).reshape(-1, VOCAB), window[:, 1:].reshape(-1))
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    times.append(1e3 * (time.perf_counter() - begin))
times = sorted(times[WARM_UP:])
print(
    f"torch {torch.__version__}, {args.size}, {args.encoding}, {args.threads} threads: median {statistics.median(times):.1f} ms a step"
    f" ({times[len(times) // 10]:.1f} to {times[9 * len(times) // 10]:.1f}, tenth to ninetieth percentile of {args.steps})"
)
