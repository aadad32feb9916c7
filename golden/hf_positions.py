"""Positions of the models of transformers that do not turn queries and keys: what their classes default to, and what they compute.

    python hf_positions.py classes FILE   writes the defaults of every config class: crates/posenc/src/config/registry/plain.json
    python hf_positions.py types FILE     writes the names of all model types: crates/posenc/src/config/model_types.txt
    python hf_positions.py OUT            writes OUT/hf_positions.json and OUT/hf_positions.safetensors

Needs torch and transformers 5.23.0.
"""

import dataclasses
import importlib
import inspect
import json
import os
import re
import sys
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers.models.bark.configuration_bark import BarkCoarseConfig, BarkFineConfig, BarkSemanticConfig

# Objects inside a model's file whose types have no name in the mapping.
INNER = {"semantic": BarkSemanticConfig, "coarse_acoustics": BarkCoarseConfig, "fine_acoustics": BarkFineConfig}

# Older names of keys, which a class takes where it is built.
OLDER = {
    "bloom": {"n_embed": "hidden_size"},
    "falcon": {"n_embed": "hidden_size"},
    "molmo2_vision": {"image_default_input_size": "image_size", "image_patch_size": "patch_size"},
}

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
        names.update(OLDER.get(name, {}))
        if names:
            entry["attribute_map"] = names
        found[name] = entry
    return found


def lines(table):
    """A model type per line."""
    rows = [f"{json.dumps(name)}: {json.dumps(entry, sort_keys=True)}" for name, entry in table.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


# Sizes of a model that is built here, where its class has the key.
SMALL = dict(
    hidden_size=16, d_model=16, n_embd=16, emb_dim=16, dim=16, embed_dim=16, embedding_size=16, num_attention_heads=2, n_head=2, n_heads=2, num_heads=2,
    attention_heads=2, encoder_attention_heads=2, decoder_attention_heads=2, num_encoder_attention_heads=2, num_decoder_attention_heads=2,
    num_hidden_layers=2, n_layer=2, n_layers=2, num_layers=2, num_decoder_layers=2, num_encoder_layers=2, encoder_layers=2, decoder_layers=2, layers=2,
    intermediate_size=24, d_ff=24, d_kv=8, ffn_dim=24, encoder_ffn_dim=24, decoder_ffn_dim=24, hidden_dim=24, d_inner=24, d_head=8, n_inner=24,
    vocab_size=40, src_vocab_size=40, tgt_vocab_size=40, max_position_embeddings=24, n_positions=24, max_seq_len=24, max_source_positions=24,
    max_target_positions=12, num_mel_bins=8, attention_window=4, relative_attention_num_buckets=12, relative_attention_max_distance=20, num_buckets=12,
    window_size=3, local_radius=3, context_length=10, prediction_length=4, d_embed=16, projection_dim=16, input_feat_per_channel=8, conv_channels=8,
    eos_token_id=2, bos_token_id=0, decoder_start_token_id=2, n_langs=1, max_2d_position_embeddings=8, num_experts=2, expert_capacity=4,
)  # fmt: skip
PICTURE = dict(image_size=24, patch_size=8, num_register_tokens=2)
# What a class needs beside that.
MORE = {
    "albert": dict(embedding_size=8), "electra": dict(embedding_size=8), "gpt_neo": dict(attention_types=[[["global", "local"], 1]]),
    "distilbert.sinusoidal": dict(sinusoidal_pos_embds=True), "xlm.sinusoidal": dict(sinusoidal_embeddings=True),
    "flaubert.sinusoidal": dict(sinusoidal_embeddings=True), "trocr.sinusoidal": dict(use_learned_position_embeddings=False),
    "gpt2.by_layer": dict(scale_attn_by_inverse_layer_idx=True), "gpt2.unscaled": dict(scale_attn_weights=False),
    "longformer": dict(attention_window=[4, 6]), "led": dict(attention_window=4, max_encoder_position_embeddings=30, max_decoder_position_embeddings=20),
    "deberta": dict(relative_attention=True, pos_att_type="c2p|p2c", max_relative_positions=-1),
    "deberta-v2": dict(relative_attention=True, pos_att_type=["p2c", "c2p"], max_relative_positions=16, position_buckets=8, share_att_key=True),
    "deberta-v2.own": dict(relative_attention=True, pos_att_type=["c2p"], position_biased_input=False),
    "falcon": dict(alibi=True, num_attention_heads=4, multi_query=False, bias=True), "bloom": dict(n_head=4, hidden_size=16),
    "bloom.twelve": dict(n_head=6, hidden_size=24), "mpt": dict(n_heads=6, d_model=24),
    "xlnet": dict(clamp_len=3), "marian": dict(pad_token_id=3), "whisper": dict(pad_token_id=3, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None),
    "yolos": {}, "vitpose_backbone": dict(image_size=[24, 16], patch_size=[8, 8], part_features=4), "mgp-str": dict(image_size=[16, 24], patch_size=8),
    "vivit": dict(image_size=16, num_frames=4, tubelet_size=[2, 8, 8]), "audio-spectrogram-transformer": dict(max_length=64, num_mel_bins=32, patch_size=16),
    "pixio": dict(n_cls_tokens=3), "siglip2_vision_model": dict(num_patches=9), "nystromformer": dict(num_landmarks=4),
    "musicgen_decoder": dict(num_codebooks=1, pad_token_id=1), "prophetnet": dict(disable_ngram_loss=True), "mpnet": dict(relative_attention_num_buckets=32),
    "moonshine_streaming_encoder": dict(sliding_windows=[[2, 1], [3, 0]]), "wav2vec2-bert": dict(left_max_position_embeddings=5, right_max_position_embeddings=2, feature_projection_input_dim=16),
    "wav2vec2-conformer": dict(position_embeddings_type="relative"), "internvl_vision": dict(image_size=[24, 16], patch_size=[8, 8]),
}  # fmt: skip
# Keys that a class does not let be set.
REFUSED = {"xlnet": ["max_position_embeddings"], "prophetnet": ["num_hidden_layers"]}
# Tables of sines that are made as parameters.
MADE = ("fsmt", "marian", "pegasus")
TEXT = """
albert bert bert-generation big_bird biogpt camembert data2vec-text electra ernie fnet gpt2 gpt2.by_layer gpt2.unscaled gpt_bigcode gpt_neo ibert
longformer megatron-bert mpnet mra nystromformer openai-gpt opt rembert roberta roberta-prelayernorm roc_bert splinter xlm-roberta xlm-roberta-xl yoso
distilbert distilbert.sinusoidal xlm xlm.sinusoidal flaubert flaubert.sinusoidal ctrl xglm trocr trocr.sinusoidal deberta deberta-v2 deberta-v2.own bloom bloom.twelve
mpt falcon xlnet bart mbart plbart mvp blenderbot blenderbot-small led bigbird_pegasus marian pegasus m2m_100 nllb-moe fsmt t5 mt5 umt5 longt5
switch_transformers prophetnet clip_text_model siglip_text_model align_text_model lilt layoutlm markuplm luke musicgen_decoder whisper speech_to_text
wav2vec2-conformer wav2vec2-bert parakeet_encoder
""".split()
PICTURES = """
vit deit dinov2 dinov2_with_registers ijepa clip_vision_model siglip_vision_model siglip2_vision_model blip_vision_model dpt vit_mae vit_msn flava_image_model
idefics2_vision idefics3_vision vitpose_backbone mgp-str vivit audio-spectrogram-transformer pixio aimv2_vision_model internvl_vision videomae
""".split()


def built(key, small):
    """A small model of a type, and its configuration."""
    name = key.split(".")[0]
    cls = CONFIG_MAPPING[name]
    try:
        config = cls()
    except Exception:
        config = cls(**{k: v for k, v in small.items() if hasattr(cls, k)})
    chosen = {k: v for k, v in small.items() if hasattr(cls, k) or hasattr(config, k)}
    names = dict(getattr(cls, "attribute_map", {}) or {})
    chosen = {k: v for k, v in chosen.items() if k not in names or names[k] == k}
    for refused in REFUSED.get(name, ()):
        chosen.pop(refused, None)
    chosen.update(MORE.get(key, {}))
    config = cls(**chosen)
    config._attn_implementation = "eager"
    module = importlib.import_module(cls.__module__.replace(".configuration_", ".modeling_"))
    own = [v for v in vars(module).values() if inspect.isclass(v) and issubclass(v, PreTrainedModel) and v.__module__ == module.__name__]
    own = [v for v in own if getattr(v, "config_class", None) is cls and not v.__name__.endswith("PreTrainedModel")]
    own.sort(key=lambda v: (not v.__name__.endswith("Model"), len(v.__name__)))
    error = None
    torch.manual_seed(0)
    for candidate in own:
        try:
            return candidate(config).eval(), config
        except Exception as failure:
            error = error or failure
    raise error or ValueError("no model class")


def stack_of(name, model):
    """The stack that a module belongs to, in a model that has two."""
    several = any(n.split(".")[-1] == "decoder" for n, _ in model.named_modules()) and any(
        n.split(".")[-1] == "encoder" for n, _ in model.named_modules()
    )
    for part in name.split("."):
        if several and part in ("encoder", "decoder"):
            return part
    return "all"


IDS = [[5, 9, 4, 7, 3, 6, 6, 5, 1, 1, 1, 1], [1, 1, 1, 6, 9, 5, 4, 8, 7, 7, 3, 4]]
MASK = [[1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]]


def text(key, tensors):
    """One record: what the class adds to embeddings for a padded batch, and what its layers add to scores."""
    model, config = built(key, SMALL)
    record = dict(id=key, model_type=key.split(".")[0], cls=type(model).__name__, config=json.loads(config.to_json_string(use_diff=False)), stacks={})
    record["config"].pop("transformers_version", None)
    pad = getattr(config, "pad_token_id", None)
    pad = 1 if pad is None else pad
    ids = torch.tensor([[pad if not m else (i if i != pad else 11) for i, m in zip(*rows)] for rows in zip(IDS, MASK)])
    mask = torch.tensor(MASK)
    tensors[f"{key}/input_ids"], tensors[f"{key}/attention_mask"] = ids, mask
    captured = {}

    def keep(name):
        def hook(module, given, out):
            if torch.is_tensor(out) or (isinstance(out, tuple) and torch.is_tensor(out[0])):
                captured.setdefault(name, (module, out if torch.is_tensor(out) else out[0]))

        return hook

    for name, module in model.named_modules():
        last = name.split(".")[-1]
        if re.fullmatch(r"wpe|positions_embed|position_embeddings|embed_positions|position_embedding|pos_emb|position_encoding|embed_positions_.*", last):
            if learned(key, module):
                with torch.no_grad():
                    module.weight.normal_(generator=torch.Generator().manual_seed(len(name)))
            module.register_forward_hook(keep(name))
    run(model, ids, mask)
    for name, (module, out) in captured.items():
        stack = stack_of(name, model)
        # Other tables of the same name: those of entities, of boxes. Sounds have another length.
        sound = key == "speech_to_text" and stack == "encoder"
        if stack in record["stacks"] or (out.shape[-2] != ids.shape[1] and not sound):
            continue
        out = out.detach().float()
        out = out.reshape(-1, *out.shape[-2:])
        tensors[f"{key}/{stack}/added"] = out.expand(2, -1, -1).contiguous().clone()
        entry = dict(learned=learned(key, module), by_order=sound)
        if entry["learned"]:
            tensors[f"{key}/{stack}/table"] = module.weight.detach().float().contiguous().clone()
        record["stacks"][stack] = entry
    if key.startswith("ctrl"):
        tensors[f"{key}/all/added"] = model.pos_encoding[: ids.shape[1]].expand(2, -1, -1).contiguous().clone()
        record["stacks"]["all"] = dict(learned=False, by_order=True)
    if key == "whisper":
        tensors[f"{key}/encoder/added"] = model.encoder.embed_positions.weight.detach()[None].contiguous().clone()
        record["stacks"]["encoder"] = dict(learned=False, by_order=True)
    scores(key, model, config, record, tensors)
    if not record["stacks"]:
        raise ValueError(f"nothing found; modules: {[n for n, _ in model.named_modules() if 'pos' in n][:8]}")
    return record


def learned(key, module):
    if type(module).__name__ == "QuantEmbedding":
        return True
    return isinstance(module, torch.nn.Embedding) and module.weight.requires_grad and not (key.endswith(".sinusoidal") or key in MADE)


def run(model, ids, mask):
    """One forward pass, as far as it comes."""
    parameters = inspect.signature(model.forward).parameters
    given = {}
    if "input_features" in parameters:
        config = model.config
        width = getattr(config, "feature_projection_input_dim", None) or getattr(config, "num_mel_bins", None) or 8
        time = 2 * getattr(config, "max_source_positions", 24)
        given["input_features"] = torch.zeros(2, width, time) if "Whisper" in type(model).__name__ else torch.zeros(2, 64, width)
    elif "input_values" in parameters:
        given["input_values"] = torch.zeros(2, 4000)
    elif "input_ids" in parameters:
        given["input_ids"], given["attention_mask"] = ids, mask
    if "Musicgen" in type(model).__name__:
        given.pop("attention_mask")
    if "decoder_input_ids" in parameters:
        given["decoder_input_ids"] = ids
        if "decoder_attention_mask" in parameters:
            given["decoder_attention_mask"] = mask
    if "bbox" in parameters:
        given["bbox"] = torch.zeros(*ids.shape, 4, dtype=torch.long)
    try:
        with torch.no_grad():
            model(**{k: v for k, v in given.items() if k in parameters})
    except Exception as failure:
        if os.environ.get("LOUD"):
            print("   forward:", repr(failure)[:300])


def scores(key, model, config, record, tensors):
    """What layers add to scores, and what they multiply them with."""
    with torch.no_grad():
        for name, module in model.named_modules():
            stack = stack_of(name, model)
            entry = record["stacks"].setdefault(stack, {}) if hasattr(module, "relative_attention_bias") and hasattr(module, "compute_bias") else None
            if entry is not None and "bias" not in entry and isinstance(module.relative_attention_bias, torch.nn.Embedding):
                weight = module.relative_attention_bias.weight
                weight.normal_(generator=torch.Generator().manual_seed(len(name)))
                tensors[f"{key}/{stack}/t5_table"] = weight.detach().clone()
                local = "Local" in type(module).__name__ or "TransientGlobal" in type(module).__name__
                if not local:
                    tensors[f"{key}/{stack}/t5_bias"] = module.compute_bias(30, 30)[0].contiguous().clone()
                    entry["bias"] = "t5"
                entry["tables"] = sum(stack_of(n, model) == stack and n.endswith("relative_attention_bias") for n, _ in model.named_modules())
        if key.startswith("mpnet"):
            weight = model.encoder.relative_attention_bias.weight
            weight.normal_(generator=torch.Generator().manual_seed(1))
            tensors[f"{key}/all/t5_table"] = weight.detach().clone()
            tensors[f"{key}/all/t5_bias"] = model.encoder.compute_position_bias(torch.zeros(1, 30, 16))[0].contiguous().clone()
            record["stacks"]["all"]["bias"] = "t5"
            record["stacks"]["all"]["tables"] = 1
        module = importlib.import_module(type(model).__module__)
        if key.startswith("bloom"):
            tensors[f"{key}/all/alibi"] = model.build_alibi_tensor(torch.ones(1, 40, dtype=torch.long), config.n_head, torch.float32).reshape(config.n_head, 40).contiguous().clone()
            record["stacks"]["all"] = dict(bias="alibi")
        if key.startswith("mpt"):
            tensors[f"{key}/all/alibi"] = module.build_mpt_alibi_tensor(config.n_heads, 40).reshape(config.n_heads, 40).contiguous().clone()
            record["stacks"]["all"] = dict(bias="alibi")
        if key.startswith("falcon"):
            heads = config.num_attention_heads
            alibi = module.build_alibi_tensor(torch.ones(1, 40, dtype=torch.long), heads, torch.float32).reshape(heads, 40)
            # Scores and biases are divided by the root of the head's width together.
            tensors[f"{key}/all/alibi"] = (alibi / (config.hidden_size // heads) ** 0.5).contiguous().clone()
            record["stacks"]["all"] = dict(bias="alibi")
        if key.startswith("deberta"):
            encoder = model.encoder
            rows = torch.arange(40)
            if key.startswith("deberta-v2"):
                near = module.build_relative_position(rows[None, :, None].expand(1, 40, 8), rows[None, :, None].expand(1, 40, 8), bucket_size=encoder.position_buckets, max_position=encoder.max_relative_positions)
            else:
                near = module.build_relative_position(rows[None, :, None].expand(1, 40, 8), rows[None, :, None].expand(1, 40, 8))
            tensors[f"{key}/all/buckets"] = near.reshape(40, 40).contiguous().clone()
            own = [m for m in model.modules() if "DisentangledSelfAttention" in type(m).__name__][0]
            names = sorted(n for n, _ in own.named_children() if n.startswith("pos_"))
            entry = record["stacks"].setdefault("all", {})
            entry.update(bias="deberta", rows=list(encoder.rel_embeddings.weight.shape), projections=[n for n in names if n != "pos_dropout"], terms=len(own.pos_att_type))
        if key.startswith("xlnet"):
            tensors[f"{key}/all/relative"] = model.relative_positional_encoding(9, 9, bsz=1)[:, 0].contiguous().clone()
            record["stacks"]["all"] = dict(bias="xlnet", first=9, last=-8)
        if key.startswith("wav2vec2-conformer"):
            tensors[f"{key}/all/relative"] = model.encoder.embed_positions(torch.zeros(1, 9, config.hidden_size))[0].contiguous().clone()
            record["stacks"]["all"] = dict(bias="conformer", first=8, last=-8)
        if key.startswith("parakeet"):
            tensors[f"{key}/all/relative"] = model.encode_positions(torch.zeros(1, 9, config.hidden_size))[0].contiguous().clone()
            record["stacks"]["all"] = dict(bias="conformer", first=8, last=-8)
        if key.startswith("wav2vec2-bert"):
            own = [m for m in model.modules() if hasattr(m, "distance_embedding")][0]
            weight = own.distance_embedding.weight
            # Each row is its own number in one coordinate: what a query of that coordinate reads is the row.
            weight.zero_()
            weight[:, 0] = torch.arange(weight.shape[0])
            query = torch.zeros(1, config.num_attention_heads, 12, own.head_size)
            query[..., 0] = 1
            bias = module._apply_relative_key_position_encoding(own, query, query)[1]
            tensors[f"{key}/all/rows_read"] = (bias[0, 0] * own.head_size**0.5).round().long().contiguous().clone()
            record["stacks"]["all"] = dict(bias="keys", rows=weight.shape[0])
        for stack in record["stacks"]:
            found = [
                getattr(m, a)
                for n, m in model.named_modules()
                if stack_of(n, model) == stack and "ttention" in type(m).__name__ and "Cross" not in type(m).__name__ and "encoder_attn" not in n
                for a in ("scaling", "inv_norm_factor", "softmax_scale")
                if isinstance(getattr(m, a, None), float)
            ]
            if found:
                record["stacks"][stack]["scales"] = found
        local = [m for m in model.modules() if type(m).__name__ == "GPTNeoSelfAttention" and m.attention_type == "local"]
        if local:
            tensors[f"{key}/all/sees"] = local[0].bias[0, 0].long().contiguous().clone()
            record["stacks"]["all"]["local_layers"] = [m.attention_type == "local" for m in model.modules() if type(m).__name__ == "GPTNeoSelfAttention"]
        sided = [m.one_sided_attn_window_size for m in model.modules() if hasattr(m, "one_sided_attn_window_size")]
        if sided:
            record["stacks"].setdefault("encoder" if key == "led" else "all", {})["one_sided_windows"] = sided


def picture(key, tensors):
    """One record: the table of a picture's cells."""
    model, config = built(key, {**SMALL, **PICTURE})
    record = dict(id=key, model_type=key.split(".")[0], cls=type(model).__name__, config=json.loads(config.to_json_string(use_diff=False)), stacks={})
    record["config"].pop("transformers_version", None)
    tables = dict(list(model.named_parameters()) + list(model.named_buffers()))
    names = [n for n in tables if re.search(r"position_embeddings?(\.weight)?$|pos_embed$", n) and "decoder" not in n]
    if key == "vit_mae":
        # Initialised anew only where its projection is not.
        model.embeddings.patch_embeddings.projection._is_hf_initialized = False
        model.embeddings.initialize_weights()
        tables = dict(model.named_parameters())
    if key == "videomae":
        tables["own"], names = model.embeddings.position_embeddings, ["own"]
    table = tables[names[0]]
    table = table.reshape(-1, table.shape[-1])
    fixed = key in ("vit_mae", "videomae")
    record["stacks"]["all"] = dict(learned=False) if key == "videomae" else dict(rows=table.shape[0], width=table.shape[1], learned=not fixed)
    if fixed:
        tensors[f"{key}/all/added"] = table.detach().float()[None].contiguous().clone()
    return record


def pixels(key, tensors):
    """One record: DETR's sines at the pixels of two padded pictures. Its backbone, which needs another package, is left out."""
    config = CONFIG_MAPPING[key](d_model=16, encoder_attention_heads=2, decoder_attention_heads=2, encoder_layers=2, decoder_layers=2, num_queries=5)
    module = importlib.import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
    sines = next(v for n, v in vars(module).items() if n.endswith("SinePositionEmbedding") and v.__module__ == module.__name__)
    record = dict(id=key, model_type=key, cls=sines.__name__, config=json.loads(config.to_json_string(use_diff=False)), stacks={})
    record["config"].pop("transformers_version", None)
    is_pixel = torch.ones(2, 5, 6, dtype=torch.bool)
    is_pixel[1, 3:], is_pixel[1, :, 4:] = False, False
    made = sines(config.d_model // 2, normalize=True)
    x = torch.zeros(2, 3, 5, 6)
    parameters = list(inspect.signature(made.forward).parameters)
    out = made(shape=x.shape, device=x.device, dtype=x.dtype, mask=is_pixel) if parameters[0] == "shape" else made(x, is_pixel)
    # Rows and columns, or one line of cells.
    out = out.flatten(2).transpose(1, 2) if out.dim() == 4 else out
    tensors[f"{key}/encoder/is_pixel"] = is_pixel
    tensors[f"{key}/encoder/inputs"] = out.contiguous().clone()
    record["stacks"] = dict(encoder=dict(bias="pixels"), decoder=dict(bias="queries", rows=config.num_queries))
    return record


def records():
    found, tensors = [], {}
    for keys, make in ((TEXT, text), (PICTURES, picture), (["detr", "table-transformer"], pixels)):
        for key in keys:
            try:
                found.append(make(key, tensors))
            except Exception as failure:
                print(f"{key}: {failure!r}"[:300])
    kept = {f"{record['id']}/" for record in found}
    return found, {k: v for k, v in tensors.items() if k.split("/")[0] + "/" in kept}


if __name__ == "__main__":
    if sys.argv[1] == "classes":
        open(sys.argv[2], "w").write(lines(classes()))
    elif sys.argv[1] == "types":
        open(sys.argv[2], "w").write("".join(f"{name}\n" for name in sorted(CONFIG_MAPPING_NAMES)))
    else:
        found, tensors = records()
        with open(f"{sys.argv[1]}/hf_positions.json", "w") as file:
            file.write("[\n" + ",\n".join(json.dumps(record) for record in found) + "\n]\n")
        save_file(tensors, f"{sys.argv[1]}/hf_positions.safetensors")
        print(len(found), "records")
