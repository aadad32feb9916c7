"""What the classes of transformers leave unsaid about layers: the defaults of sizes, windows, scales and patterns of each model type.

    python hf_defaults.py all_types.txt > ../../crates/posenc/src/config/registry/defaults.txt

Needs transformers 5.23.0. The argument is a file of model types, one in a line. A line of the output is a model type, a space and an object: the class's fields with a
default that is not None, as they stand in the class, before the class derives others from them. `@` maps other names of a field, which files may use, to the class's own; `&` names the
class's parts with the model type that each has when its object does not say one (`empty`) and when there is no object (`absent`, with what the default part `changes` in that type's defaults).
"""

import dataclasses
import glob
import importlib
import inspect
import json
import os
import re
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# Fields that a reader of positions asks for.
KEYS = re.compile(
    r"^((text_|vision_|decoder_|encoder_|speech_encoder_|memory_attention_)?(hidden_size|num_attention_heads|num_heads|num_hidden_layers|num_layers|num_attention_layers|num_key_value_heads|head_dim"
    r"|attention_heads|layers|n_head|n_heads)|n_embd|d_model|embed_dim|dim|projection_dim|n_layer|n_layers|depth|n_head_kv|num_kv_heads|kv_channels|attention_head_dim"
    r"|max_position_embeddings|n_positions|max_seq_len|max_sequence_length|seq_length|n_ctx|original_max_position_embeddings"
    r"|qk_nope_head_dim|qk_rope_head_dim|v_head_dim|q_lora_rank|kv_lora_rank|global_head_dim|num_global_key_value_heads|attention_k_eq_v|num_kv_shared_layers"
    r"|sliding_window|sliding_window_size|use_sliding_window|max_window_layers|sliding_window_pattern|global_attn_every_n_layers|local_attention|attention_window_size"
    r"|attention_windows|default_long_sliding_window|window_size|attention_chunk_size|layer_types|layers_block_type|block_types|layer_group_size|full_attention_interval|attn_layer_indices"
    r"|full_attn_idxs|prefix_dense_sliding_window_pattern|no_rope_layers|no_rope_layer_interval|use_bidirectional_attention|is_causal|is_decoder"
    r"|query_pre_attn_scalar|attention_multiplier|attn_logit_softcapping|attn_logit_softcap|logits_soft_cap|attention_bias_scale|scale_attn_weights|scale_attn_by_inverse_layer_idx"
    r"|attn_temperature_tuning|floor_scale|attn_scale|log_scaling_floor|log_scaling_alpha|position_embedding_type|position_embeddings_type|use_mem_rope|multi_query|new_decoder_architecture"
    r"|num_attention_heads_per_layer|num_key_value_heads_per_layer|num_attention_groups|num_sliding_attention_heads|rotary_dim|pad_token_id|num_mtp_layers|fullatt_block_indexes"
    r"|global_attn_indexes|attention_sliding_window|add_swa_attention_sink_bias|add_full_attention_sink_bias|.*swa_.*|.*_attention_sink.*)$"
)
DROPPED = {"pad_token_id", "is_decoder", "num_mtp_layers"}
# Names that a class takes for a field without an attribute map.
TAKEN = {
    "step3p5_vision": {"width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads"},
    "dots3_note_vision_encoder": {"embed_dim": "hidden_size", "num_heads": "num_attention_heads"},
    "dots3_note_text": {"sliding_window_size": "sliding_window"},
}
# What a class makes of a field that is None, and a reader cannot derive.
MADE = {
    "mllama_text_model": {"cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]},
    "sam3_vit_model": {"global_attn_indexes": [7, 15, 23, 31]},
    "jetmoe": {"num_attention_heads": 32},
    "dots3_note_text": {"sliding_window": 512},
}


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


def plain(value):
    simple = lambda x: x is None or isinstance(x, (bool, int, float, str))
    return simple(value) or (isinstance(value, (list, tuple)) and len(value) <= 128 and all(map(simple, value)))


def fields(cls):
    found = {}
    for field in dataclasses.fields(cls):
        if not KEYS.match(field.name) or field.name in DROPPED:
            continue
        value = field.default
        if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if value is None or value is dataclasses.MISSING or not plain(value) or isinstance(value, str) and len(value) > 40:
            continue
        found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def line(name):
    cls = class_of(name)
    found = fields(cls)
    for key, value in MADE.get(name, {}).items():
        assert getattr(cls(), key) == value, (name, key)
        found[key] = value
    names = {a: b for a, b in (cls.attribute_map or {}).items() if (b in found or KEYS.match(b) and b in {f.name for f in dataclasses.fields(cls)}) and KEYS.match(a)}
    names.update(TAKEN.get(name, {}))
    if names:
        found["@"] = names
    return found


def parts(name):
    """Parts of a composite: key → (model type of an empty object, what the default part changes)."""
    cls = class_of(name)
    found = {}
    for key in cls.sub_configs or {}:
        try:
            whole = cls()
            default = getattr(whole, key, None)
        except Exception:
            default = None
        implied = None
        try:
            implied = getattr(cls(**{key: {}}), key).model_type
        except Exception:
            implied = None
        entry = {}
        if implied:
            entry["empty"] = implied
        if isinstance(default, PreTrainedConfig) and default.model_type:
            entry["absent"] = default.model_type
            raw = fields(type(default))
            for key_, value in raw.items():
                now = vars(default).get(key_)
                if plain(now) and now is not None and now != value and key_ not in ("layer_types", "layers_block_type", "sliding_window", "head_dim", "num_key_value_heads"):
                    entry.setdefault("changes", {})[key_] = now
        if entry.keys() == {"empty", "absent"} and entry["empty"] == entry["absent"]:
            found[key] = implied
        elif "empty" in entry or "absent" in entry:
            found[key] = entry
    return found


def main(types):
    for name in sorted(open(types).read().split()):
        try:
            found = line(name)
        except KeyError:
            print(f"{name}: no class", file=sys.stderr)
            continue
        inner = parts(name)
        if inner:
            found["&"] = inner
        if found:
            print(name, json.dumps(found, separators=(",", ":"), sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
