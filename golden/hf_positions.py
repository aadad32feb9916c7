"""Positions of the models of transformers that do not turn queries and keys: what their classes default to, and what they compute.

    python hf_positions.py classes FILE   writes the defaults of every config class: crates/posenc/src/config/registry/plain.json
    python hf_positions.py types FILE     writes the names of all model types: crates/posenc/src/config/model_types.txt
    python hf_positions.py OUT            writes OUT/hf_positions.json and OUT/hf_positions.safetensors

Needs torch and transformers 5.23.0.
"""

import dataclasses
import json
import os
import re
import sys
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers.models.bark.configuration_bark import BarkCoarseConfig, BarkFineConfig, BarkSemanticConfig

# Objects inside a model's file whose types have no name in the mapping.
INNER = {"semantic": BarkSemanticConfig, "coarse_acoustics": BarkCoarseConfig, "fine_acoustics": BarkFineConfig}

# Keys that the reader asks for.
KEYS = """
block_size num_queries qk_nope_head_dim qk_rope_head_dim max_timescale min_timescale spectrogram_bins
attention_head_dim attention_head_size attention_heads attention_hidden_size attention_window attn_logit_softcapping clamp_len context_length d_head
d_kv d_model decoder_attention_heads decoder_layers decoder_num_attention_heads dim dim_head embed_dim embedding_size emb_dim
encoder_attention_heads encoder_layers encoder_num_attention_heads frequency_stride head_dim heads hidden_dim hidden_size image_size input_embedding_size
l_layers layers left_max_position_embeddings local_radius max_decoder_position_embeddings max_encoder_position_embeddings max_ep_len
max_img_size max_length max_pos_emb max_position_embeddings max_relative_positions max_seq_len max_source_positions max_target_positions max_vit_seq_len
multi_query n_cls_tokens n_embd n_head n_heads n_layer n_layers n_positions new_decoder_architecture num_attention_heads
num_buckets num_decoder_attention_heads num_decoder_layers num_encoder_attention_heads num_encoder_layers num_frames num_heads num_hidden_layers
num_key_value_heads num_kv_heads num_layers num_mel_bins num_patches num_position_embeddings pad_token_id patch_size pos_att_type
position_biased_input position_buckets prediction_length pretrain_image_size relative_attention relative_attention_max_distance
relative_attention_num_buckets right_max_position_embeddings scale_attn_by_inverse_layer_idx scale_attn_weights seq_length share_att_key
sliding_window sliding_windows speech_encoder_attention_heads speech_encoder_layers time_stride intra_bottleneck_size tubelet_size window_size
position_embeddings_type position_embedding_type
""".split()


def default(cls, config, key):
    """A class's own default of a key: not what it makes of other keys."""
    fields = {field.name: field for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    if key in fields and fields[key].default_factory is not dataclasses.MISSING:
        return getattr(config, key, None)
    # A pair, which a class sets where it is called.
    if key == "image_size" and getattr(cls, key, None) is None:
        return getattr(config, key, None)
    return getattr(cls, key, None)


def listed():
    """Model types that the registry reads as not turning."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../crates/posenc/src/config/registry")
    names = set()
    for file in ("learned", "sinusoidal", "relative", "pictures", "placeless"):
        names |= set(re.findall(r'\b(?:one|pair|twice|three|text|padded|gpt|vit|cells|none)\(\s*"([^"]+)"', open(f"{folder}/{file}.rs").read()))
    return names


def classes():
    """Defaults of each model type."""
    found = {}
    for name in sorted(listed()):
        cls = INNER[name] if name in INNER else CONFIG_MAPPING[name]
        try:
            config = cls()
        except Exception:
            config = None
        entry = {}
        for key in KEYS:
            value = default(cls, config, key)
            if isinstance(value, tuple):
                value = list(value)
            if isinstance(value, (bool, int, float, str, list)):
                entry[key] = value
        names = {k: v for k, v in dict(getattr(cls, "attribute_map", {}) or {}).items() if v in entry}
        if names:
            entry["attribute_map"] = names
        found[name] = entry
    return found


def lines(table):
    """A model type per line."""
    rows = [f"{json.dumps(name)}: {json.dumps(entry, sort_keys=True)}" for name, entry in table.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1] == "classes":
        open(sys.argv[2], "w").write(lines(classes()))
    elif sys.argv[1] == "types":
        open(sys.argv[2], "w").write("".join(f"{name}\n" for name in sorted(CONFIG_MAPPING_NAMES)))
