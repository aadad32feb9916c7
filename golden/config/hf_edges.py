"""What transformers makes of rotary settings that files spell in odd ways.

    python hf_edges.py > hf_edges.json

Needs torch and transformers 5.23.0. A record has the file, and either the error or, for each buffer of the model's rotary module, its f32 frequencies and the factor of its table.
"""

import copy
import importlib
import inspect
import json
import os
import re
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LLAMA = dict(model_type="llama", hidden_size=128, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=4, max_position_embeddings=4096)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=1024)
LONG = dict(rope_type="longrope", factor=4.0, original_max_position_embeddings=1024, short_factor=[1.0 + i / 16 for i in range(16)], long_factor=[2.0 + i for i in range(16)])
L3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=1024)
KINDS = ["sliding_attention", "full_attention"] * 2
OLMO3 = dict(LLAMA, model_type="olmo3", layer_types=KINDS, sliding_window=8)
STEP = dict(model_type="step3p5", hidden_size=256, num_attention_heads=4, num_hidden_layers=4, layer_types=KINDS[::-1], sliding_window=8, head_dim=64, num_attention_groups=4)

FILES = {
    "head_dim null, default": dict(LLAMA, head_dim=None),
    "head_dim null, linear": dict(LLAMA, head_dim=None, rope_scaling=dict(rope_type="linear", factor=2.0)),
    "head_dim null, dynamic": dict(LLAMA, head_dim=None, rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    "head_dim null, yarn": dict(LLAMA, head_dim=None, rope_scaling=YARN),
    "head_dim null, longrope": dict(LLAMA, head_dim=None, rope_scaling=LONG),
    "head_dim null, llama3": dict(LLAMA, head_dim=None, rope_scaling=L3),
    "head_dim null without a rule of the class, yarn": dict(LLAMA, model_type="mistral", head_dim=None, rope_scaling=YARN),
    "head_dim null without a rule of the class, longrope": dict(LLAMA, model_type="mistral", head_dim=None, rope_scaling=LONG),
    "head_dim null without a rule of the class, default": dict(LLAMA, model_type="mistral", head_dim=None),
    "truncate, flat": dict(LLAMA, rope_scaling=dict(YARN, truncate=False)),
    "truncate, nested": dict(OLMO3, rope_parameters=dict(full_attention=dict(YARN, truncate=False, rope_theta=5e5), sliding_attention=dict(rope_type="default", rope_theta=5e5))),
    "type and rope_type alike": dict(LLAMA, rope_scaling=dict(L3, type="llama3")),
    "type alone": dict(LLAMA, rope_scaling={"type": "linear", "factor": 4.0}),
    "type and rope_type apart": dict(LLAMA, rope_scaling={"type": "linear", "rope_type": "dynamic", "factor": 4.0}),
    "share at the top": dict(LLAMA, partial_rotary_factor=0.5),
    "share in the dictionary": dict(LLAMA, rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)),
    "share in both": dict(LLAMA, partial_rotary_factor=0.25, rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)),
    "share of the class": dict(LLAMA, model_type="glm4_moe", n_routed_experts=2),
    "share at the top, over the class's": dict(LLAMA, model_type="stablelm", partial_rotary_factor=0.5),
    "share 0.45 of 32": dict(LLAMA, partial_rotary_factor=0.45),
    "trained length at the top": dict(LLAMA, original_max_position_embeddings=512, rope_scaling=YARN),
    "trained length at the top alone": dict(LLAMA, original_max_position_embeddings=512, rope_scaling=dict(rope_type="yarn", factor=8.0)),
    "trained length nowhere": dict(LLAMA, rope_scaling=dict(rope_type="yarn", factor=8.0)),
    "no factor": dict(LLAMA, rope_scaling=dict(rope_type="longrope", short_factor=LONG["short_factor"], long_factor=LONG["long_factor"], original_max_position_embeddings=1024)),
    "Phi-3, all in the dictionary": dict(LLAMA, model_type="phi3", pad_token_id=0, original_max_position_embeddings=1024, rope_scaling=dict({k: v for k, v in LONG.items() if k != "factor"}, rope_type="longrope")),
    "rope_scaling null": dict(LLAMA, rope_theta=5e5, rope_scaling=None),
    "rope_scaling empty": dict(LLAMA, rope_theta=5e5, rope_scaling={}),
    "theta in both": dict(LLAMA, rope_theta=5e5, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "theta beside a dictionary without one": dict(LLAMA, rope_theta=5e5, rope_parameters=dict(rope_type="linear", factor=2.0)),
    "both dictionaries": dict(LLAMA, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4), rope_scaling=dict(rope_type="linear", factor=4.0)),
    "one base per layer": dict(STEP, rope_theta=[5e6, 1e4, 5e6, 1e4], partial_rotary_factors=[0.5, 1.0, 0.5, 1.0]),
    "one base, two layer types": dict(STEP, rope_theta=5e5),
    "one base per layer and a scaling": dict(STEP, rope_theta=[5e6, 1e4, 5e6, 1e4], rope_scaling=dict(L3)),
    "Qwen2.5 with YaRN": dict(LLAMA, model_type="qwen2", rope_theta=1e6, rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}),
    "Qwen2-VL's old name": dict(LLAMA, model_type="qwen2_vl_text", rope_theta=1e6, rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]}),
    "GPT-NeoX's old names": dict(LLAMA, model_type="gpt_neox", rotary_emb_base=5e4, rotary_pct=0.5),
    "GPT-NeoX's old names with a scaling": dict(LLAMA, model_type="gpt_neox", rotary_emb_base=5e4, rotary_pct=0.5, rope_scaling=dict(rope_type="linear", factor=2.0)),
    "ModernBERT's old names": dict(model_type="modernbert", hidden_size=128, num_attention_heads=4, num_hidden_layers=3, global_rope_theta=1.6e5, local_rope_theta=5e3),
    "Gemma 3's old names": dict(LLAMA, model_type="gemma3_text", head_dim=32, rope_theta=2e6, rope_local_base_freq=5e3, rope_scaling=dict(rope_type="linear", factor=8.0)),
    "Gemma 3 without any": dict(model_type="gemma3_text", num_hidden_layers=6),
    "OLMo 3's old names": dict(OLMO3, rope_theta=3e5, rope_scaling=YARN),
    "class dictionary, gpt-oss": dict(model_type="gpt_oss", num_hidden_layers=2),
    "class dictionary, gpt-oss with a base": dict(model_type="gpt_oss", num_hidden_layers=2, rope_theta=1e4),
    "class dictionary, Ministral 3": dict(model_type="ministral3", num_hidden_layers=2),
    "class dictionary, Ministral 3 with a base": dict(model_type="ministral3", num_hidden_layers=2, rope_theta=5e4),
    "class dictionary, Apertus": dict(model_type="apertus", num_hidden_layers=2),
    "class dictionary, Gemma 4": dict(model_type="gemma4_text", num_hidden_layers=6),
    "class dictionary, LFM 3": dict(model_type="lfm3", num_hidden_layers=4),
    "class dictionary, Mistral 4 with a dictionary of its own": dict(model_type="mistral4", num_hidden_layers=2, rope_parameters=dict(rope_type="default", rope_theta=5e4)),
    "mscale with both": dict(LLAMA, rope_scaling=dict(YARN, mscale=0.707, mscale_all_dim=1.0)),
    "mscale alone": dict(LLAMA, rope_scaling=dict(YARN, mscale=0.707)),
    "attention_factor": dict(LLAMA, rope_scaling=dict(YARN, attention_factor=1.5)),
    "attn_factor": dict(LLAMA, rope_scaling=dict(YARN, attn_factor=0.5)),
    "beta of zero": dict(LLAMA, rope_scaling=dict(YARN, beta_fast=0, beta_slow=0)),
    "head_dim from the class": dict(model_type="qwen3", hidden_size=256, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2),
    "equal factors of Llama 4": dict(model_type="llama4_text", hidden_size=128, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=4, head_dim=32, rope_scaling=dict(L3, high_freq_factor=1.0)),
}


def rotary_of(config):
    folder = type(config).__module__.rsplit(".", 1)[0]
    module = importlib.import_module(folder + ".modeling_" + folder.rsplit(".", 1)[1])
    names = [n for n, v in vars(module).items() if inspect.isclass(v) and re.search(r"Rotary", n) and v.__module__ == module.__name__ and "Vision" not in n]
    names.sort(key=lambda n: ("Text" not in n, len(n)))
    return getattr(module, names[0])(config)


def main():
    records = []
    for name, file in FILES.items():
        record = dict(name=name, file=file)
        try:
            module = rotary_of(CONFIG_MAPPING[file["model_type"]].from_dict(copy.deepcopy(file)))
            record["frequencies"] = {
                k[: -len("inv_freq")].rstrip("_"): v.float().tolist() for k, v in module.named_buffers() if k.endswith("inv_freq") and "original" not in k
            }
            record["factors"] = {k[: -len("attention_scaling")].rstrip("_"): float(v) for k, v in vars(module).items() if k.endswith("attention_scaling")}
        except Exception as failure:
            record["error"] = f"{failure!r}"[:160]
        records.append(record)
    print("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in records) + "\n]")


main()
