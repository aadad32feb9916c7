"""Reference vectors of rotations in half precision: how transformers rounds them, bit for bit.

    python rounding.py OUT        writes OUT/rounding.json and OUT/rounding.safetensors

Needs torch and transformers 5.23.0. Each record is one model's own rotary module and apply function, run on CPU on queries in bfloat16 or float16; `cos32`, `sin32` [1, seq, pairs] are what
the module computes before it casts them. `rounding` names what the code does: `each_step` (tables cast, two products and a sum, each rounded), `tables` (tables cast, arithmetic in f32),
`once` (f32 tables, f32 arithmetic). `grad` is autograd's gradient of the queries for the gradient `g` of the turned ones.
"""

import importlib
import json
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from safetensors.torch import save_file

POSITIONS = [0, 1, 2, 5, 257, 4095, 100003]

# Folder, prefix of its classes, apply function, pairing, rounding.
MODELS = [
    ("llama", "Llama", "apply_rotary_pos_emb", "halves", "each_step"),
    ("glm4", "Glm4", "apply_rotary_pos_emb", "interleaved", "each_step"),
    ("deepseek_v3", "DeepseekV3", "apply_rotary_pos_emb_interleave", "interleaved_to_halves", "each_step"),
    ("cohere", "Cohere", "apply_rotary_pos_emb", "interleaved", "tables"),
    ("ernie4_5", "Ernie4_5", "apply_rotary_pos_emb", "interleaved", "once"),
]


def main(out):
    generator = torch.Generator().manual_seed(3)
    records, tensors = [], {}
    for folder, prefix, function, pairing, rounding in MODELS:
        module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
        config = importlib.import_module(f"transformers.models.{folder}.configuration_{folder}")
        config = getattr(config, prefix + "Config")(hidden_size=64, num_attention_heads=2, num_key_value_heads=2)
        config.head_dim = 32
        if pairing == "interleaved_to_halves":
            config.qk_rope_head_dim = 32
        rotary = getattr(module, prefix + "RotaryEmbedding")(config)
        ids = torch.tensor([POSITIONS])
        cos32, sin32 = rotary(torch.zeros(1, len(POSITIONS), 64), ids)
        interleaved_table = torch.equal(cos32[..., 0::2], cos32[..., 1::2])
        half = (lambda t: t[..., 0::2]) if interleaved_table else (lambda t: t[..., : t.shape[-1] // 2])
        for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
            q, k, g = (torch.randn(1, 2, len(POSITIONS), 32, generator=generator).to(dtype) for _ in "qkg")
            q.requires_grad_(True)
            cos, sin = rotary(torch.zeros(1, len(POSITIONS), 64, dtype=dtype), ids)
            q_out, _ = getattr(module, function)(q, k, cos, sin)
            q_out.backward(g)
            key = f"{folder}.{name}"
            records.append(dict(id=key, pairing=pairing, rounding=rounding, position_ids=POSITIONS))
            for label, value in dict(cos32=half(cos32), sin32=half(sin32), q=q, q_out=q_out, g=g, grad=q.grad).items():
                tensors[f"{key}/{label}"] = value.detach().contiguous().clone()
    os.makedirs(out, exist_ok=True)
    json.dump(records, open(os.path.join(out, "rounding.json"), "w"), indent=0)
    save_file(tensors, os.path.join(out, "rounding.safetensors"))
    print(len(records), "records")


if __name__ == "__main__":
    main(sys.argv[1])
