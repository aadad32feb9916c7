"""Small attention modules of transformers with random weights: what each gives for one input, causal, beside its own state dict.

    python3 make.py     # writes attention.safetensors and attention.json here

Made with transformers 5.23.0 and torch 2.15.0 on the CPU, in f32."""

import json

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention, GPTNeoXRotaryEmbedding
from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor
from transformers.models.opt.modeling_opt import OPTAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding
from transformers.models.t5.modeling_t5 import T5Attention

BATCH, LEN, WIDTH, HEADS = 2, 7, 24, 4
at = torch.arange(LEN)[None]
blocked = torch.triu(torch.full((LEN, LEN), torch.finfo(torch.float32).min), 1)[None, None]


def bloom(x):
    config = transformers.BloomConfig(hidden_size=WIDTH, n_head=HEADS)
    module = BloomAttention(config, layer_idx=0)
    alibi = build_alibi_tensor(torch.ones(BATCH, LEN), HEADS, torch.float32)
    return config, module, lambda: module(x, torch.zeros_like(x), alibi, blocked)[0]


def mpt(x):
    config = transformers.MptConfig(d_model=WIDTH, n_heads=HEADS, max_seq_len=32)
    module = MptAttention(config, layer_idx=0)
    bias = build_mpt_alibi_tensor(HEADS, LEN)
    hidden = torch.triu(torch.ones(LEN, LEN, dtype=torch.bool), 1)[None, None]
    return config, module, lambda: module(x, bias, attention_mask=hidden)[0]


def neox(x):
    config = transformers.GPTNeoXConfig(hidden_size=WIDTH, num_attention_heads=HEADS, rotary_pct=2 / 3)
    config._attn_implementation = "eager"
    module = GPTNeoXAttention(config, layer_idx=0)
    turns = GPTNeoXRotaryEmbedding(config)(x, at)
    return config, module, lambda: module(x, blocked, position_embeddings=turns)[0]


def opt(x):
    config = transformers.OPTConfig(hidden_size=WIDTH, num_attention_heads=HEADS)
    config._attn_implementation = "eager"
    module = OPTAttention(config, layer_idx=0)
    return config, module, lambda: module(x, attention_mask=blocked)[0]


def qwen(config, attention, rotary):
    def make(x):
        config._attn_implementation = "eager"
        module = attention(config, layer_idx=0)
        turns = rotary(config)(x, at)
        return config, module, lambda: module(x, turns, blocked)[0]

    return make


sizes = dict(hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=2, num_hidden_layers=1)
qwen2 = qwen(transformers.Qwen2Config(**sizes), Qwen2Attention, Qwen2RotaryEmbedding)
qwen3 = qwen(transformers.Qwen3Config(head_dim=8, **sizes), Qwen3Attention, Qwen3RotaryEmbedding)


def t5(x):
    config = transformers.T5Config(d_model=WIDTH, d_kv=6, num_heads=HEADS, is_decoder=True, use_cache=False)
    module = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    return config, module, lambda: module(x, mask=blocked)[0]


tensors, configs = {}, {}
for seed, (name, make) in enumerate(dict(bloom=bloom, mpt=mpt, neox=neox, opt=opt, qwen2=qwen2, qwen3=qwen3, t5=t5).items()):
    torch.manual_seed(seed)
    x = torch.randn(BATCH, LEN, WIDTH)
    config, module, run = make(x)
    module.eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
        out = run()
    configs[name] = config.to_dict()
    tensors |= {f"{name}/x": x, f"{name}/out": out}
    tensors |= {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, "attention.safetensors")
with open("attention.json", "w") as file:
    json.dump(configs, file, indent=1, sort_keys=True, default=str)
