"""Makes `biases.json` and `biases.safetensors` beside this file.

    git clone https://github.com/chijames/KERPLE            # at 25be3d712e96a3353b374f1f8e36b97d86f97ffa
    git clone https://github.com/chuanyang-Zheng/DAPE       # at bde344a844f2bd1f498b2bac70240dcda41c50c1
    pip install torch transformers==5.23.0 safetensors numpy
    git clone https://github.com/NVIDIA/NeMo                # at 8cfedd7203462cb251a914e700e5605444277561
    python golden/biases.py KERPLE DAPE NeMo

Made with torch 2.15.0 on CPU. The classes are run as they stand there: `ParallelKerpleLog` and `ParallelKerplePower` of KERPLE's `megatron/mpu/layers.py`, `FIRE` of DAPE's `DAPE.py`, NeMo's `SandwichRelativePositionEmbedding`, transformers'
`SwinRelativePositionBias` and `Swinv2SelfAttention`. All is computed in f64: where the code says f32 (FIRE's distances, Swin v2's offsets) it is given f64 for it, so that what differs by more than
rounding differs in meaning. A record has the bias, the output softmax(bias) v of attention whose queries and keys are zeros (with a sink per head), and the gradients of sum(out * grad_out) for v and all parameters.
"""

import ast
import json
import math
import pathlib
import sys
import types

import torch
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
records, tensors = [], {}


class InF64:
    """torch, for code that names f32."""

    float32 = torch.float64
    cuda = types.SimpleNamespace(current_device=lambda: "cpu", is_available=lambda: False)

    def __getattr__(self, name):
        return getattr(torch, name)


def classes(paths, *names):
    """Some classes and functions of files that cannot be imported without their whole package."""
    nodes = [node for path in paths for node in ast.parse(pathlib.Path(path).read_text()).body]
    chosen = [node for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in names]
    space = {
        "torch": InF64(),
        "nn": torch.nn,
        "math": math,
        "Parameter": torch.nn.Parameter,
        "get_model_parallel_world_size": lambda: 1,
        "get_model_parallel_rank": lambda: 0,
        "experimental": lambda cls: cls,
    }
    exec(compile(ast.Module(chosen, []), str(paths), "exec"), space)
    return [space[name] for name in names]


def record(seed, id, module, args, bias, parameters, causal):
    """`bias(zeros)` `[heads, q, k]` through attention; `parameters` by their names here, with the shapes they have here."""
    generator = torch.Generator().manual_seed(seed)
    value = bias()
    heads, q_len, k_len = value.shape
    v = torch.randn(1, heads, k_len, 3, generator=generator).requires_grad_()
    grad_out = torch.randn(1, heads, q_len, 3, generator=generator)
    scores = value
    if causal:
        blocked = torch.ones(q_len, k_len, dtype=torch.bool).triu(1 + k_len - q_len)
        scores = value.masked_fill(blocked, float("-inf"))
    # A sink per head takes its share: without it softmax would hide what is added to all scores of a row, and its gradient would be rounding.
    sinks = torch.linspace(-0.5, 0.5, heads)[:, None, None].expand(heads, q_len, 1)
    out = torch.softmax(torch.cat([scores, sinks], -1), -1)[None, ..., :-1] @ v
    (out * grad_out).sum().backward()
    kept = {"v": v, "grad_v": v.grad, "grad_out": grad_out, "out": out, "sinks": sinks[:, 0, 0]}
    for name, (tensor, shape) in parameters.items():
        kept[f"param.{name}"] = tensor.reshape(shape)
        kept[f"grad.{name}"] = tensor.grad.reshape(shape)
    if not causal:
        kept["bias"] = value[None]
    records.append({"id": id, "module": module, "args": args | {"heads": heads, "q_len": q_len, "k_len": k_len}, "is_causal": causal})
    for name, tensor in kept.items():
        tensors[f"{id}/{name}"] = tensor.detach().clone().contiguous()


def kerple(folder):
    log, power = classes([f"{folder}/megatron/mpu/layers.py"], "ParallelKerpleLog", "ParallelKerplePower")
    for seed, (cls, kernel, heads, q_len, k_len, bounded) in enumerate(
        [(log, "log", 4, 23, 23, False), (log, "log", 3, 1, 40, False), (power, "power", 4, 23, 23, False), (power, "power", 3, 1, 40, False), (log, "log", 2, 9, 9, True), (power, "power", 2, 9, 9, True)]
    ):
        torch.manual_seed(seed)
        module = cls(types.SimpleNamespace(num_attention_heads=heads, pos_emb="kerple_power_ap_" if kernel == "power" else "kerple_log", params_dtype=torch.float64))
        with torch.no_grad():
            module.bias_p.clamp_(min=0.05)
            module.bias_a.clamp_(min=0.05)
            if bounded:
                # The code writes the ends of the ranges over these.
                module.bias_p[0], module.bias_a[1], module.bias_p[1] = -0.2, 0.001, 2.7
        parameters = {name: (getattr(module, name), [heads]) for name in ("bias_p", "bias_a")}
        name = f"kerple-{kernel}-{q_len}x{k_len}" + ("-bounded" if bounded else "")
        record(seed, name, cls.__name__, {"kernel": kernel}, lambda: module(torch.zeros(1, heads, q_len, k_len))[0], parameters, True)


def fire(folder):
    (cls,) = classes([f"{folder}/DAPE.py"], "FIRE")
    for seed, (heads, hidden, c, length, n) in enumerate([(4, 32, 0.1, 512.0, 24), (3, 32, 0.1, 7.3, 24), (2, 8, 0.5, 3.7, 33), (2, 16, -0.3, 5.2, 17)]):
        torch.manual_seed(100 + seed)
        module = cls(num_heads=heads, mlp_width=hidden, init_c=c, init_L=length)
        with torch.no_grad():
            module.L_multiplier.fill_(-1.1 if c < 0 else 1.0)
        named = {f"fire.{name}": (p, list(p.shape)) for name, p in module.named_parameters() if p.requires_grad}
        record(seed, f"fire-{heads}x{hidden}-{length}-{n}", "FIRE", {"hidden": hidden, "length": length}, lambda: module(torch.zeros(1, heads, n, n))[0], named, True)


def sandwich(folder):
    folder = f"{folder}/nemo/collections/nlp/modules/common/megatron/position_embedding"
    paths = [f"{folder}/alibi_relative_position_embedding.py", f"{folder}/sandwich_relative_position_embedding.py"]
    cls, _ = classes(paths, "SandwichRelativePositionEmbedding", "build_relative_position")
    for seed, (heads, hidden, q_len, k_len) in enumerate([(4, 128, 30, 30), (3, 10, 1, 50)]):
        module = cls(True, heads, None, hidden)
        record(400 + seed, f"sandwich-{heads}-{hidden}-{q_len}x{k_len}", cls.__name__, {"hidden": hidden}, lambda: module(q_len, k_len)[0], {}, False)


def swin():
    from transformers.models.swin.modeling_swin import SwinRelativePositionBias

    for seed, (heads, window) in enumerate([(3, (4, 3)), (2, (1, 6)), (4, (5, 5))]):
        generator = torch.Generator().manual_seed(200 + seed)
        module = SwinRelativePositionBias(heads, window)
        with torch.no_grad():
            module.relative_position_bias_table.copy_(torch.randn(module.relative_position_bias_table.shape, generator=generator))
        table = module.relative_position_bias_table
        record(seed, f"swin-{heads}-{window[0]}x{window[1]}", "SwinRelativePositionBias", {"window": window, "rows": window[0], "columns": window[1]}, lambda: module()[0], {"relative_position_bias_table": (table, list(table.shape))}, False)


def swinv2():
    from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

    config = types.SimpleNamespace(qkv_bias=True, attention_probs_dropout_prob=0.0)
    for seed, (heads, window, pretrained) in enumerate([(2, (4, 3), [0, 0]), (2, (5, 4), [3, 6])]):
        torch.manual_seed(300 + seed)
        # `.float()` of whole numbers on the way to the offsets.
        single, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
        module = Swinv2SelfAttention(config, 4 * heads, heads, window, pretrained)
        torch.Tensor.float = single
        with torch.no_grad():
            for p in [module.query.weight, module.query.bias, module.key.weight]:
                p.zero_()
            for p in module.continuous_position_bias_mlp.parameters():
                p.mul_(3.0)
        seen = []
        softmax = torch.nn.functional.softmax

        def bias():
            # The scores of queries and keys that are zeros, on their way into the softmax.
            torch.nn.functional.softmax = lambda scores, dim: seen.append(scores) or softmax(scores, dim=dim)
            module(torch.zeros(1, window[0] * window[1], 4 * heads))
            torch.nn.functional.softmax = softmax
            return seen[-1][0]

        named = {f"continuous_position_bias_mlp.{name}": (p, list(p.shape)) for name, p in module.continuous_position_bias_mlp.named_parameters()}
        divisor = [p if pretrained[0] > 0 else w for p, w in zip(pretrained, window)]
        args = {"window": divisor, "rows": window[0], "columns": window[1], "hidden": 512}
        record(seed, f"swinv2-{window[0]}x{window[1]}-{pretrained[0]}x{pretrained[1]}", "Swinv2SelfAttention", args, bias, named, False)


kerple(sys.argv[1])
fire(sys.argv[2])
sandwich(sys.argv[3])
swin()
swinv2()
here = pathlib.Path(__file__).parent
(here / "biases.json").write_text(json.dumps(records, indent=1) + "\n")
save_file(tensors, here / "biases.safetensors")
print(len(records), "records,", sum(t.numel() for t in tensors.values()), "numbers")
