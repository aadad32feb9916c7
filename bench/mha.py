"""`nn.MultiheadAttention` on [8, 256, 512] with 8 heads in PyTorch: the peer of `cargo run --release -p posenc-nn --features rayon --example mha`.

Self-attention, batch first, f32, no mask, no dropout, no weights returned. Forward in evaluation without gradients; forward and backward in training, the gradients of
parameters and of the input among them. Prints the median and the range over the rounds.

    pip install torch
    python bench/mha.py [--threads 2] [--rounds 30]
"""
import argparse, statistics, time
import torch, torch.nn as nn

args = argparse.ArgumentParser()
args.add_argument("--threads", type=int, default=2)
args.add_argument("--rounds", type=int, default=30)
args = args.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
BATCH, LENGTH, WIDTH, HEADS = 8, 256, 512, 8

attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
x = torch.randn(BATCH, LENGTH, WIDTH)
d_out = torch.randn(BATCH, LENGTH, WIDTH)


def forward():
    with torch.no_grad():
        attention(x, x, x, need_weights=False)


def both():
    attention.zero_grad()
    given = x.detach().requires_grad_()
    out, _ = attention(given, given, given, need_weights=False)
    out.backward(d_out)


def measure(name, work):
    for _ in range(5):
        work()
    times = []
    for _ in range(args.rounds):
        begin = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - begin))
    times.sort()
    print(
        f"torch {torch.__version__}, {args.threads} threads, {name}: median {statistics.median(times):.1f} ms"
        f" ({times[len(times) // 10]:.1f} to {times[9 * len(times) // 10]:.1f}, tenth to ninetieth percentile of {args.rounds})"
    )


attention.train()
measure("forward + backward", both)
measure("forward, training", lambda: attention(x, x, x, need_weights=False))
attention.eval()
measure("forward, evaluation", forward)
