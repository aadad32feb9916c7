"""What each layer of each rotary model type does in transformers: types, widths, scales, soft caps, windows, chunks, and whether it turns.

    python hf_layers.py types.txt ../../crates/posenc/src/config/fixtures > hf_layers.json

The first argument is a file of model types, one in a line, the second a folder of config.json files, which are run too. Needs torch and transformers 5.23.0.

A model is built without weights (on the device `meta`) and run on eight tokens with an attention function and a mask function of our own. The former sees what reaches the softmax: the shapes
of queries and keys, the scale, the soft cap, the sinks. The latter sees the rule of the mask as a function of two indices, and finds by bisection how far a query sees to either side, so
no convention of a key's name is taken on trust. Functions whose name says that they turn are counted between two attentions. What does not run so is recorded as far as it came, with `note`.
"""

import copy
import glob
import importlib
import inspect
import json
import os
import re
import signal
import sys
import types
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
import torch
import transformers
import transformers.masking_utils
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING

torch.set_num_threads(1)
TOKENS = 8
FAR = 1 << 24
calls, turned = [], [0]
# It reads values, which tensors on `meta` do not have.
transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None


def edge(rule, query, step):
    """How many keys a query sees on one side; None: all."""
    sees = lambda d: bool(rule(0, 0, torch.tensor(query), torch.tensor(query + step * d)))
    if sees(FAR // 2):
        return None
    low, high = 0, FAR // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sees(middle) else (low, middle)
    return low


def probe_mask(batch_size=1, q_length=None, kv_length=None, q_offset=0, kv_offset=0, mask_function=None, **_):
    mask = torch.empty(1, 1, int(q_length), int(kv_length), device="meta")
    try:
        # Two queries: with chunks they see differently far.
        mask.probe = [[edge(mask_function, q, -1), edge(mask_function, q, 1)] for q in (FAR, FAR + 5)]
    except Exception:
        mask.probe = "values"
    return mask


def probe_attention(module, query, key, value, attention_mask=None, scaling=None, dropout=0.0, **more):
    softcap = more.get("softcap")
    calls.append(
        dict(
            module=module, q=list(query.shape), k=list(key.shape), scale=scaling, window=more.get("sliding_window"), softcap=softcap,
            sinks=more.get("s_aux") is not None, mask=None if attention_mask is None else getattr(attention_mask, "probe", "values"), turns=turned[0] > 0,
        )
    )
    turned[0] = 0
    b, h, t, _ = query.shape
    return torch.empty(b, t, h, value.shape[-1], device=query.device, dtype=value.dtype), None


AttentionInterface.register("probe", probe_attention)
AttentionMaskInterface.register("probe", probe_mask)


def count_turns(module):
    for name, function in list(vars(module).items()):
        if inspect.isfunction(function) and re.search(r"apply.*(rot|rope)", name) and not hasattr(function, "counted"):

            def counting(*a, function=function, **k):
                turned[0] += 1
                return function(*a, **k)

            counting.counted = True
            setattr(module, name, counting)


def all_classes():
    found = {}
    for path in sorted(glob.glob(os.path.dirname(transformers.__file__) + "/models/*/configuration_*.py")):
        folder, file = path.split(os.sep)[-2:]
        module = importlib.import_module(f"transformers.models.{folder}.{file[:-3]}")
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, PreTrainedConfig) and value.__module__ == module.__name__ and value.model_type:
                found.setdefault(value.model_type, value)
    return found


CLASSES = all_classes()


def class_of(name):
    return CONFIG_MAPPING[name] if name in CONFIG_MAPPING else CLASSES[name]


def models_of(config_class):
    """Models that take this configuration, bare ones first."""
    found = []
    try:
        mapped = MODEL_MAPPING[config_class]
        found += list(mapped) if isinstance(mapped, (tuple, list)) else [mapped]
    except Exception:
        pass
    for base in config_class.__mro__:
        folder = base.__module__.rsplit(".", 1)[0]
        if not folder.startswith("transformers.models."):
            continue
        try:
            module = importlib.import_module(folder + ".modeling_" + folder.rsplit(".", 1)[1])
        except Exception:
            continue
        named = []
        for name, value in vars(module).items():
            if not (inspect.isclass(value) and issubclass(value, PreTrainedModel) and value.__module__ == module.__name__):
                continue
            annotated = value.__dict__.get("__annotations__", {}).get("config")
            if name.endswith("PreTrainedModel") or value in found or base not in (annotated, getattr(value, "config_class", None)) and annotated != base.__name__:
                continue
            named.append(value)
        found += sorted(named, key=lambda c: "For" in c.__name__)
    return found


def skip_experts(model):
    """Which expert a token goes to is a value: their layers hand their input on."""
    for name, module in model.named_modules():
        if re.search(r"(^|\.)(mlp|moe|feed_forward|block_sparse_moe|ffn|mixer_moe)$", name) and list(module.children()):
            old = module.forward
            out = re.search(r"return\s+\S+,", inspect.getsource(type(module).forward)) is not None
            module.forward = (lambda x, *a, **k: (x, None)) if out else (lambda x, *a, **k: x)


def inputs_of(model, config):
    """What forward can be given, the likeliest first."""
    width = getattr(config, "hidden_size", None) or 8
    ids = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    embeds = torch.empty(1, TOKENS, width, device="meta")
    names = inspect.signature(model.forward).parameters
    more = {"use_cache": False} if "use_cache" in names else {}
    for key, value in [("input_ids", ids), ("inputs_embeds", embeds), ("input_features", embeds), ("hidden_states", embeds)]:
        if key in names:
            yield {key: value, **more}
    if "position_ids" in names and "inputs_embeds" in names:
        yield {"inputs_embeds": embeds, "position_ids": torch.zeros(3, 1, TOKENS, dtype=torch.long, device="meta"), **more}


def run(config):
    best = ([], {}, "no model class")
    for cls in models_of(type(config))[:4]:
        for skipping in (False, True):
            try:
                attempt = copy.deepcopy(config)
                attempt._attn_implementation = "probe"
                with torch.device("meta"), no_init_weights():
                    model = cls(attempt).eval()
                if skipping:
                    skip_experts(model)
            except Exception as failure:
                best = best if best[0] else ([], {}, f"{cls.__name__}: {failure!r}"[:160])
                break
            names = {id(m): n for n, m in model.named_modules()}
            for m in {type(m).__module__ for m in model.modules()}:
                if m.startswith("transformers.models."):
                    count_turns(sys.modules[m])
            for given in inputs_of(model, attempt):
                calls.clear()
                turned[0] = 0
                note = None
                try:
                    with torch.no_grad():
                        model(**given)
                except Exception as failure:
                    note = f"{cls.__name__}: {failure!r}"[:160]
                if note is None and calls:
                    return list(calls), names, None
                if len(calls) > len(best[0]) or not best[1]:
                    best = (list(calls), names, note or best[2])
    return best


def built(config):
    """Attributes of the attention modules of a model that did not run, for each layer that has one."""
    for cls in models_of(type(config))[:4]:
        try:
            with torch.device("meta"), no_init_weights():
                model = cls(copy.deepcopy(config))
        except Exception:
            continue
        found = []
        for name, module in model.named_modules():
            if not re.search(r"Attention", type(module).__name__) or any("Attention" in type(m).__name__ for m in list(module.modules())[1:]):
                continue
            read = lambda *keys: next((v for v in (getattr(module, k, None) for k in keys) if isinstance(v, (int, float)) and not isinstance(v, bool)), None)
            head_dim = read("head_dim", "head_size", "attention_head_size", "dim_per_head")
            heads = read("num_heads", "num_attention_heads", "n_heads", "n_head")
            scale = read("scaling", "scale", "norm_factor", "inv_norm_factor")
            if head_dim and heads:
                found.append((name, dict(heads=int(heads), kv_heads=read("num_kv_heads", "num_key_value_heads"), head_dim=int(head_dim), scale=scale)))
        if found:
            return found
    return []


def window_of(mask, keyword):
    """[left, right], and the size of chunks."""
    if mask is None or mask == "values":
        return mask, None
    first, second = mask
    if first == second:
        return (None if first[0] is None and first[1] in (None, 0) else first), None
    # Chunked: two queries five apart see chunks that begin at the same key or at the next.
    return "chunked", None


def record(name, config, file):
    found, names, note = run(config)
    layers = {}
    for call in found:
        path = names.get(id(call["module"]), "")
        numbers = re.findall(r"(?:layers|layer|h|blocks|block|encoder|decoder)\.(\d+)\.", path + ".")
        if not numbers:
            continue
        index = int(numbers[-1])
        stack = path[: path.rindex("." + numbers[-1])] if "." in path else ""
        window, _ = window_of(call["mask"], call["window"])
        layers.setdefault(stack, {}).setdefault(
            index,
            dict(heads=call["q"][1], kv_heads=call["k"][1], head_dim=call["q"][3], scale=call["scale"], softcap=call["softcap"], sinks=call["sinks"],
                 keyword=call["window"], window=window, turns=call["turns"]),
        )
    # The longest stack; of equals the last (a decoder).
    stack = max(layers, key=lambda s: (len(layers[s]), s)) if layers else None
    plans, order = [], []
    layer_types = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    try:
        count = int(getattr(config, "num_hidden_layers", None) or 0)
    except Exception:
        count = 0
    if stack is not None:
        count = max(count, 1 + max(layers[stack])) if note is None else 1 + max(layers[stack])
        for i in range(count):
            plan = layers[stack].get(i)
            if plan not in plans:
                plans.append(plan)
            order.append(plans.index(plan))
    out = dict(name=name, model_type=config.model_type, file=file, count=count, types=list(layer_types) if layer_types else None, stack=stack, plans=plans, layers=order)
    if note:
        out["note"] = note
    if not plans:
        # Widths and scale only, of modules in numbered layers.
        layers = {}
        for path, plan in built(config):
            numbers = re.findall(r"\.(\d+)\.", "." + path + ".")
            if numbers:
                stack = path[: path.rindex(numbers[-1])]
                layers.setdefault(stack, []).append(plan)
        if layers:
            stack = max(layers, key=lambda s: (len(layers[s]), s))
            every = [plan for found in layers.values() for plan in found]
            out["built"] = dict(stack=stack, layers=len(layers[stack]), plans=[p for i, p in enumerate(every) if p not in every[:i]])
    return out


SMALL = dict(num_hidden_layers=6)
KINDS = ["full_attention", "sliding_attention"] * 3
HYBRID = ["linear_attention", "full_attention"] * 3
# Beside the defaults: keys that drive the pattern, the window, the widths or the scale; and what a default lacks to run at all.
CHANGED = {
    "afmoe": {"pattern": dict(SMALL, global_attn_every_n_layers=2, sliding_window=16)},
    "apertus": {"heads": dict(SMALL, hidden_size=256, num_attention_heads=4, num_key_value_heads=2)},
    "bailing_hybrid": {"pattern": dict(SMALL, layer_group_size=3)},
    "bamba": {"indices": dict(SMALL, attn_layer_indices=[1, 4])},
    "beam": {"pattern": dict(SMALL, sliding_window=8)},
    "chameleon": {"ids": dict(SMALL, vocabulary_map={"<image>": 7})},
    "cohere2": {"pattern": dict(SMALL, sliding_window_pattern=2, sliding_window=16), "types": dict(SMALL, layer_types=KINDS, sliding_window=16)},
    "cohere2_moe": {"prefix": dict(num_hidden_layers=8, first_k_dense_replace=2, prefix_dense_sliding_window_pattern=2, sliding_window_pattern=3, sliding_window=8)},
    "cwm": {"no window": dict(SMALL, sliding_window=None, layer_types=["full_attention"] * 6)},
    "dbrx": {"inner": dict(n_layers=4, d_model=256, n_heads=8, attn_config=dict(kv_n_heads=2, rope_theta=5e5))},
    "deepseek_v2": {"run": dict(SMALL, num_experts_per_tok=2, n_routed_experts=8, first_k_dense_replace=6), "mscale": dict(
        SMALL, first_k_dense_replace=6, rope_scaling=dict(type="yarn", factor=40, mscale=0.707, mscale_all_dim=0.707, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1))},
    "deepseek_v3": {"mscale": dict(
        SMALL, first_k_dense_replace=6, rope_scaling=dict(type="yarn", factor=40, mscale=1.0, mscale_all_dim=1.0, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1))},
    "deepseek_v4": {"ratios": dict(num_hidden_layers=4, compress_ratios=[0, 4, 128, 4])},
    "dots1": {"run": dict(SMALL, n_routed_experts=8, num_experts_per_tok=2, first_k_dense_replace=6, sliding_window=8, max_window_layers=3)},
    "dots3_note_text": {"widths": dict(num_hidden_layers=8, swa_num_attention_heads=32, swa_num_key_value_heads=32, sliding_window_size=64)},
    "embedding_gemma2_text": {"pattern": dict(SMALL, sliding_window_pattern=3, sliding_window=64), "last": dict(SMALL, layer_types=["sliding_attention"] * 6)},
    "esm": {"run": dict(SMALL, vocab_size=33, pad_token_id=1, mask_token_id=2, position_embedding_type="rotary")},
    "exaone4": {"no window": dict(SMALL, sliding_window=None, layer_types=["full_attention"] * 6), "pattern": dict(SMALL, sliding_window=16, sliding_window_pattern=2)},
    "exaone_moe": {"pattern": dict(SMALL, sliding_window=16, sliding_window_pattern=3)},
    "falcon_h1": {"heads": dict(SMALL, head_dim=64)},
    "flint": {"window": dict(SMALL, sliding_window=9)},
    "gemma": {"heads": dict(SMALL, head_dim=64, num_key_value_heads=1)},
    "gemma2": {"scalar": dict(SMALL, query_pre_attn_scalar=224, attn_logit_softcapping=30.0, sliding_window=16), "no cap": dict(SMALL, attn_logit_softcapping=None)},
    "gemma3_text": {"pattern": dict(SMALL, sliding_window_pattern=3, sliding_window=16, query_pre_attn_scalar=168), "cap": dict(SMALL, attn_logit_softcapping=20.0),
                    "both ways": dict(SMALL, use_bidirectional_attention=True, sliding_window=512)},
    "gemma3n_text": {"types": dict(SMALL, layer_types=KINDS, sliding_window=16)},
    "gemma4_text": {"wide": dict(SMALL, global_head_dim=128, num_global_key_value_heads=2, attention_k_eq_v=True, sliding_window=16),
                    "no shared": dict(SMALL, global_head_dim=128, num_global_key_value_heads=2, attention_k_eq_v=False),
                    "last": dict(SMALL, layer_types=["sliding_attention"] * 6),
                    "per layer": dict(num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "full_attention"], per_layer_config={"1": {"head_dim": 64}, "2": {"head_dim": 128}})},
    "gpt_oss": {"types": dict(SMALL, layer_types=KINDS, sliding_window=16)},
    "glm": {"heads": dict(SMALL, head_dim=64)},
    "glm4v_text": {"run": dict(SMALL, rope_parameters=dict(rope_type="default", mrope_section=[16, 24, 24]))},
    "glm4v_moe_text": {"run": dict(SMALL, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, head_dim=128, first_k_dense_replace=6, rope_parameters=dict(rope_type="default", mrope_section=[8, 12, 12]))},
    "glm_image_text": {"run": dict(SMALL, rope_parameters=dict(rope_type="default", mrope_section=[16, 24, 24]))},
    "granite": {"multiplier": dict(SMALL, attention_multiplier=0.0078125)},
    "granite_swa": {"still": dict(SMALL, layer_rope_theta=[0, 1e4, 1e4, 0, 5e5, 1e4], sliding_window=16)},
    "granitemoehybrid": {"rope": dict(SMALL, layer_types=HYBRID, position_embedding_type="rope"), "still": dict(SMALL, layer_types=["mamba", "attention"] * 3)},
    "hunyuan_v1_dense": {"run": dict(SMALL, head_dim=128)},
    "hunyuan_v1_moe": {"run": dict(SMALL, head_dim=128, num_experts=2)},
    "hunyuan_vl_text": {"run": dict(SMALL, head_dim=128)},
    "hyperclovax": {"multiplier": dict(SMALL, attention_multiplier=0.01)},
    "kolibri1": {"types": dict(SMALL, layer_types=KINDS, sliding_window=16)},
    "laguna": {"heads": dict(num_hidden_layers=4, layer_types=["full_attention", "sliding_attention"] * 2, num_attention_heads_per_layer=[16, 8, 16, 8], sliding_window=16)},
    "lfm2": {"indices": dict(SMALL, full_attn_idxs=[2, 5])},
    "lfm2_moe": {"types": dict(SMALL, layer_types=["conv", "full_attention"] * 3)},
    "lfm3": {"window": dict(num_hidden_layers=8, sliding_window=16)},
    "llama": {"heads": dict(SMALL, hidden_size=512, num_attention_heads=8, num_key_value_heads=2), "head_dim": dict(SMALL, head_dim=64), "null": dict(SMALL, head_dim=None)},
    "llama4_text": {"interval": dict(SMALL, no_rope_layer_interval=3), "list": dict(SMALL, no_rope_layers=[1, 0, 1, 0, 1, 0], attention_chunk_size=64)},
    "mellum": {"types": dict(SMALL, layer_types=KINDS, sliding_window=16)},
    "mimo_v2_flash": {"sizes": dict(num_hidden_layers=7, num_key_value_heads=2, sliding_window=9), "sinks": dict(num_hidden_layers=4, sliding_window_size=128)},
    "minimax": {"types": dict(SMALL, layer_types=["linear_attention"] * 3 + ["full_attention"] * 3)},
    "minimax_m3_vl_text": {"sparse": dict(num_hidden_layers=4, sparse_attention_config=dict(sparse_attention_freq=[0, 0, 1, 1]))},
    "ministral": {"run": dict(SMALL, head_dim=128, sliding_window=16), "no window": dict(SMALL, head_dim=128, sliding_window=None)},
    "mistral": {"no window": dict(SMALL, sliding_window=None), "head_dim": dict(SMALL, head_dim=64)},
    "mixtral": {"window": dict(SMALL, sliding_window=16)},
    "modernbert": {"pattern": dict(SMALL, global_attn_every_n_layers=2, local_attention=32)},
    "modernbert-decoder": {"pattern": dict(SMALL, global_attn_every_n_layers=2, local_attention=32)},
    "muse_glimmer_text": {"window": dict(SMALL, sliding_window=16)},
    "nemotron": {"run": dict(SMALL, num_key_value_heads=8), "head_dim": dict(SMALL, num_key_value_heads=8, head_dim=64)},
    "neomme": {"window": dict(num_hidden_layers=8, sliding_window=16)},
    "olmo3": {"types": dict(SMALL, layer_types=KINDS, sliding_window=16)},
    "olmo_hybrid": {"types": dict(SMALL, layer_types=HYBRID)},
    "phi3": {"window": dict(SMALL, sliding_window=16)},
    "phi4_multimodal": {"window": dict(SMALL, sliding_window=16)},
    "phimoe": {"window": dict(SMALL, sliding_window=16)},
    "qwen2": {"above": dict(SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=2), "unused": dict(SMALL, sliding_window=16, max_window_layers=2)},
    "qwen2_moe": {"below": dict(SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=4)},
    "qwen2_vl_text": {"above": dict(SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=3)},
    "qwen3": {"above": dict(SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=2), "no head_dim": dict(SMALL, hidden_size=512, num_attention_heads=8, num_key_value_heads=8)},
    "qwen3_moe": {"used": dict(SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=2)},
    "qwen3_next": {"interval": dict(SMALL, full_attention_interval=2), "types": dict(SMALL, layer_types=HYBRID)},
    "qwen3_omni_moe_text": {"run": dict(SMALL, head_dim=128)},
    "qwen4_exp_text": {"types": dict(SMALL, layer_types=["linear_attention", "full_attention"] * 3)},
    "recurrent_gemma": {"blocks": dict(SMALL, block_types=["attention", "recurrent"], attention_window_size=16)},
    "seed_oss": {"head_dim": dict(SMALL, head_dim=64)},
    "smollm3": {"slides": dict(SMALL, use_sliding_window=True, sliding_window=16), "list": dict(SMALL, no_rope_layers=[0, 1, 1, 0, 1, 1]), "interval": dict(SMALL, no_rope_layer_interval=2)},
    "starcoder2": {"window": dict(SMALL, sliding_window=16)},
    "step3p5": {"run": dict(num_hidden_layers=4, layer_types=["full_attention", "sliding_attention"] * 2, sliding_window=512, attention_other_setting=dict(num_attention_heads=96, num_attention_groups=8)),
                "scalar": dict(num_hidden_layers=2, sliding_window=512, query_pre_attn_scalar=64)},
    "ultrabert": {"windows": dict(SMALL, attention_windows=[0, 64, 64, 0, 64, 64])},
    "vaultgemma": {"scalar": dict(SMALL, query_pre_attn_scalar=128, sliding_window=16)},
    "zamba2": {"rope": dict(num_hidden_layers=8, use_mem_rope=True, layers_block_type=["mamba", "hybrid"] * 4)},
    "zaya": {"types": dict(num_hidden_layers=4, layer_types=["hybrid", "hybrid_sliding"] * 2, sliding_window=16)},
}


def text_of(config):
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def main(types, configs=None):
    def alarm(*_):
        raise TimeoutError("too long")

    signal.signal(signal.SIGALRM, alarm)
    records = []

    def add(name, make, file):
        signal.alarm(60)
        try:
            records.append(record(name, make(), file))
        except Exception as failure:
            records.append(dict(name=name, file=file, note=f"{failure!r}"[:160]))
        signal.alarm(0)

    for name in open(types).read().split():
        cls = class_of(name)
        add(name, cls, {"model_type": name})
        for label, change in CHANGED.get(name, {}).items():
            add(f"{name}, {label}", lambda: cls.from_dict({"model_type": name, **copy.deepcopy(change)}), {"model_type": name, **change})
    for path in sorted(glob.glob(configs + "/*.json")) if configs else []:
        name = os.path.basename(path)[:-5]
        file = json.load(open(path))
        add(name, lambda: text_of(class_of(file["model_type"]).from_dict(copy.deepcopy(file))), f"{name}.json")
    print("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in records) + "\n]")
    left = [r["name"] for r in records if r.get("note")]
    print(f"{len(records)} records, {len(left)} with a note", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
