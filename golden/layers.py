"""Makes `layers.json` and `layers.safetensors` beside this file.

    pip install torch transformers==5.23.0 safetensors numpy
    python golden/layers.py

Made with torch 2.15.0 on CPU. `TransformerEncoderLayer` and `TransformerDecoderLayer` are torch's, in f64: what differs by more than rounding differs in meaning.
`DeepseekV3Attention` is transformers', with eager attention, in f32, because it computes norms and softmax in f32 whatever it is given.
Every record has the outputs and all gradients of the loss sum(out * grad_out). Dropout is 0, boolean masks are True where a pair is blocked.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file

records, tensors = [], {}


def randn(generator, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator, dtype=dtype)


def keep(record, named):
    records.append(record)
    for name, tensor in named.items():
        tensors[f"{record['id']}/{name}"] = tensor.detach().clone().contiguous()


def shake(module, generator):
    """Gains and biases begin at 1 and 0, which would hide where they go."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * randn(generator, *p.shape).to(p.dtype))


def parameters(module):
    params = dict(module.named_parameters())
    return {f"param.{n}": p for n, p in params.items()} | {f"grad.{n}": p.grad for n, p in params.items()}


def masks(generator, kind, batch, heads, q_len, k_len):
    """An attention mask and a key padding mask; every query sees the first key."""
    if kind is None:
        return None, None
    if kind == "causal":
        return torch.ones(q_len, k_len, dtype=torch.bool).triu(1), None
    shape = (batch * heads, q_len, k_len) if kind == "per-head" else (q_len, k_len)
    blocked = torch.rand(*shape, generator=generator) < 0.3
    padding = torch.rand(batch, k_len, generator=generator) < 0.2
    blocked[..., 0] = False
    padding[:, 0] = False
    if kind == "additive":
        infinite = torch.zeros(batch, k_len, dtype=torch.float64).masked_fill(padding, float("-inf"))
        return randn(generator, *shape).masked_fill(blocked, float("-inf")), infinite
    return blocked, padding


def torch_layer(seed, kind, activation, norm_first, self_mask, memory_mask=None, bias=True, eps=1e-5):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    batch, heads, width, length, memory_len = 2, 2, 8, 4, 5
    args = dict(d_model=width, nhead=heads, dim_feedforward=12, activation=activation, norm_first=norm_first, bias=bias, layer_norm_eps=eps)
    decoder = kind == "TransformerDecoderLayer"
    layer = getattr(torch.nn, kind)(**args, dropout=0.0, batch_first=True, dtype=torch.float64)
    shake(layer, generator)
    name = "-".join(filter(None, [
        "decoder" if decoder else "encoder", "pre" if norm_first else "post", activation, self_mask or "open", memory_mask if decoder else None,
        None if bias else "nobias",
    ]))
    x = randn(generator, batch, length, width).requires_grad_()
    mask, padding = masks(generator, self_mask, batch, heads, length, length)
    if decoder:
        memory = randn(generator, batch, memory_len, width).requires_grad_()
        over, over_padding = masks(generator, memory_mask, batch, heads, length, memory_len)
        inputs = dict(tgt=x, memory=memory)
        given = dict(tgt_mask=mask, memory_mask=over, tgt_key_padding_mask=padding, memory_key_padding_mask=over_padding)
    else:
        inputs = dict(src=x)
        given = dict(src_mask=mask, src_key_padding_mask=padding)
    out = layer(*inputs.values(), **given)
    grad_out = randn(generator, *out.shape)
    (out * grad_out).sum().backward()
    assert torch.isfinite(out).all()
    keep(
        dict(id=name, module=kind, args=args),
        inputs | {n: m for n, m in given.items() if m is not None} | dict(out=out, grad_out=grad_out)
        | {f"grad_{n}": t.grad for n, t in inputs.items()} | parameters(layer),
    )


def deepseek(seed, name, positions, **config):
    from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    args = dict(hidden_size=16, num_attention_heads=2, kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=6, v_head_dim=5) | config
    cfg = DeepseekV3Config(
        num_key_value_heads=args["num_attention_heads"], num_hidden_layers=1, max_position_embeddings=64, attention_dropout=0.0,
        rope_parameters=dict(rope_type="default", rope_theta=args["rope_theta"]), **{k: v for k, v in args.items() if k != "rope_theta"},
    )
    cfg._attn_implementation = "eager"
    module = DeepseekV3Attention(cfg, layer_idx=0)
    shake(module, generator)
    batch, length = positions.shape
    x = randn(generator, batch, length, args["hidden_size"], dtype=torch.float32).requires_grad_()
    blocked = torch.ones(length, length, dtype=torch.bool).triu(1)
    mask = torch.zeros(1, 1, length, length).masked_fill(blocked, float("-inf"))
    cos_sin = DeepseekV3RotaryEmbedding(cfg)(x, positions)
    out, weights = module(x, position_embeddings=cos_sin, attention_mask=mask)
    grad_out = randn(generator, *out.shape, dtype=torch.float32)
    (out * grad_out).sum().backward()
    keep(
        dict(id=name, module="DeepseekV3Attention", args=args, is_causal=True),
        dict(x=x, positions=positions, out=out, weights=weights, grad_out=grad_out, grad_x=x.grad) | parameters(module),
    )


encoder, decoder = "TransformerEncoderLayer", "TransformerDecoderLayer"
torch_layer(1, encoder, "relu", False, "boolean")
torch_layer(2, encoder, "gelu", True, "additive")
torch_layer(3, encoder, "relu", True, "causal", eps=1e-2)
torch_layer(4, encoder, "gelu", False, "per-head", bias=False)
torch_layer(5, decoder, "relu", False, "causal", "boolean")
torch_layer(6, decoder, "gelu", True, "causal", "additive")
torch_layer(7, decoder, "relu", True, "per-head", "per-head", bias=False)
torch_layer(8, decoder, "gelu", False, "additive", None, eps=1e-2)
deepseek(9, "mla-lora-interleaved-bias", torch.tensor([[0, 1, 2, 3, 4], [7, 9, 10, 30, 31]]),
         q_lora_rank=7, rope_interleave=True, attention_bias=True, rope_theta=10000.0)
deepseek(10, "mla-direct-halves", torch.arange(5).unsqueeze(0), q_lora_rank=None, rope_interleave=False, attention_bias=False, rope_theta=500.0)

here = pathlib.Path(__file__).parent
save_file(tensors, here / "layers.safetensors")
(here / "layers.json").write_text(json.dumps(records, indent=1) + "\n")
