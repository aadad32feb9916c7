"""What the scripts beside it share: arguments, and two works in turn."""
import argparse, statistics, time
import torch

args = argparse.ArgumentParser()
args.add_argument("--threads", type=int, default=1)
args.add_argument("--rounds", type=int, default=9)
args.add_argument("--only", default="")
args = args.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
SHORTEST = 2e-3


def seconds(times, work):
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) / times


def row(name, stored, shape, work, limit, limit_name):
    """Runs both in turn, each as often in a row as a clock needs."""
    if args.only not in name:
        return
    repeats = []
    for one in (work, limit):
        one()
        repeats.append(max(1, round(SHORTEST / seconds(1, one))))
    pairs = [(seconds(repeats[0], work), seconds(repeats[1], limit)) for _ in range(args.rounds)]
    times, ratios = [a for a, _ in pairs], [a / b for a, b in pairs]
    unit, factor = ("ms", 1e3) if statistics.median(times) >= 1e-3 else ("µs", 1e6)
    times = [factor * time for time in times]
    shape = "×".join(map(str, shape))
    print(
        f"{name:<32} {stored:<4} {shape:>14} {statistics.median(times):>7.3g} {unit} ({min(times):.3g}–{max(times):.3g})"
        f"  {statistics.median(ratios):.3g} ({min(ratios):.3g}–{max(ratios):.3g}) × {limit_name}"
    )
