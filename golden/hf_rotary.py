"""Reference vectors of every rotary module of transformers: one record per module that builds from a default config.

    python hf_rotary.py OUT        writes OUT/hf_rotary.json and OUT/hf_rotary.safetensors
    python hf_rotary.py OUT axes   writes OUT/hf_axes.json and OUT/hf_axes.safetensors: those with several axes alone, each with unequal positions

Needs torch and transformers 5.23.0. The records have the fields of `golden/hf_rotary.json`.
"""

import glob
import importlib
import inspect
import json
import math
import os
import re
import sys
import typing
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")
import torch
import transformers
from safetensors.torch import save_file
from transformers import PreTrainedConfig

POSITIONS = [[0, 1, 2, 5, 17, 100, 1023, 4095]]
THREE = [[[0, 1, 2, 5, 17, 100, 1023, 4095]], [[0, 3, 1, 9, 4, 77, 800, 2000]], [[0, 2, 7, 3, 30, 55, 512, 3001]]]
SECTIONS = {8: [2, 3, 3], 11: [3, 4, 4], 16: [4, 6, 6], 32: [8, 12, 12], 37: [9, 14, 14], 64: [16, 24, 24], 128: [32, 48, 48]}


def classes(module, source):
    for name in re.findall(r"^class (\w*(?:Rotary|Rope)\w*)\(", source, re.M):
        if hasattr(module, name):
            yield name, getattr(module, name)


def configs(module, cls):
    """The annotated config class first, then every other of the model's."""
    given = inspect.signature(cls.__init__).parameters["config"].annotation
    given = getattr(module, given) if isinstance(given, str) else given
    found = [a for a in (typing.get_args(given) or (given,)) if inspect.isclass(a) and issubclass(a, PreTrainedConfig)]
    folder = module.__name__.rsplit(".", 1)[0]
    other = importlib.import_module(folder + ".configuration_" + folder.rsplit(".", 1)[1])
    for name, value in sorted(vars(other).items()):
        if inspect.isclass(value) and issubclass(value, PreTrainedConfig) and value is not PreTrainedConfig and value not in found:
            found.append(value)
    stem = cls.__name__.split("Rotary")[0]
    first = found[:1]
    found.sort(key=lambda c: (c not in first, c.__name__[: -len("Config")] != stem, "Text" not in c.__name__, len(c.__name__)))
    return found


def build(module, cls):
    error = None
    for config_class in configs(module, cls):
        try:
            config = config_class()
            return config_class, config, cls(config)
        except Exception as failure:
            error = error or failure
    raise error


def one(key, module, cls, config_class, config, rotary, tensors, ids, generator):
    record = dict(
        key=key,
        cls=cls.__name__,
        dir=module.__name__.split(".")[-2],
        model_type=config_class.model_type,
        config_class=config_class.__name__,
        config=json.loads(config.to_json_string(use_diff=False)),
        forward=list(inspect.signature(rotary.forward).parameters),
        apply=None,
        position_ids=ids,
        cos_sin=[],
        attention_scaling={k: float(v) for k, v in vars(rotary).items() if k.endswith("attention_scaling")},
    )
    buffers = {k: v for k, v in rotary.named_buffers() if k.endswith("inv_freq") and not k.endswith("original_inv_freq")}
    if not buffers:
        raise ValueError("no inv_freq")
    record["inv_freq"] = sorted(buffers)
    for name, value in buffers.items():
        tensors[f"{key}/{name}"] = value.float().contiguous().clone()
    names = [n for n in ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave") if hasattr(module, n)]
    apply = None
    if names:
        record["apply"], apply = names[0], getattr(module, names[0])
    for layer_type in [b[: -len("_inv_freq")] for b in sorted(buffers) if b != "inv_freq"] or [None]:
        at = torch.tensor(ids)
        more = {} if layer_type is None else {"layer_type": layer_type}
        x = torch.zeros(1, at.shape[-1], 8)
        try:
            try:
                out = rotary(x, at, **more)
            except Exception:
                if at.dim() == 3:
                    raise
                out = rotary(x, at[None].expand(3, 1, -1), **more)
            if not isinstance(out, tuple):
                raise ValueError("complex table")
            cos, sin = out
        except Exception as failure:
            record["note"] = f"forward: {failure!r}"[:200]
            continue
        name = f"{key}/{layer_type or 'all'}"
        if cos.dim() == 2:
            cos, sin = cos[None], sin[None]
        tensors[f"{name}/cos"], tensors[f"{name}/sin"] = cos.float().contiguous().clone(), sin.float().contiguous().clone()
        entry = dict(name=name, layer_type=layer_type, pos_rank=at.dim())
        record["cos_sin"].append(entry)
        if apply is None:
            continue
        try:
            width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        except Exception:
            width = cos.shape[-1]
        for d in dict.fromkeys([width, cos.shape[-1], 2 * cos.shape[-1]]):
            q = torch.randn(1, 2, at.shape[-1], d, generator=generator)
            k = torch.randn(1, 2, at.shape[-1], d, generator=generator)
            try:
                parameters = list(inspect.signature(apply).parameters)
                if parameters[1] == "k":
                    q_out, k_out = apply(q, k, cos, sin)
                else:
                    q_out, k_out = (apply(y, cos, sin) if parameters[1] == "cos" else apply(y, sin, cos) for y in (q, k))
                if q_out.shape != q.shape:
                    raise ValueError(f"turned {list(q.shape)} into {list(q_out.shape)}")
            except Exception as failure:
                record["note"] = f"apply: {failure!r}"[:200]
                continue
            record.pop("note", None)
            for label, value in dict(q=q, k=k, q_out=q_out, k_out=k_out).items():
                tensors[f"{name}/{label}"] = value.float().contiguous().clone()
            break
    return record


ROWS = [0, 0, 1, 2, 3, 3, 5, 17]
COLUMNS = [0, 1, 0, 2, 1, 7, 4, 30]
TIMES = [0, 0, 0, 1, 1, 2, 2, 6]


def grid(key, module, cls, config_class, config, rotary, tensors, generator):
    """A module for pictures: rows and columns (and times), one per token."""
    frequencies = rotary.inv_freq.numel()
    width = getattr(config, "head_dim", None) or 4 * frequencies
    axes = [ROWS, COLUMNS]
    if "THW" in inspect.getsource(cls):
        axes, width = [TIMES, ROWS, COLUMNS], 6 * frequencies
    source = inspect.getsource(module)
    # What the module is given is (column, row) here; what is recorded is rows and columns all the same.
    given = axes[::-1] if "torch.stack([wpos_ids.flatten(), hpos_ids.flatten()]" in source else axes
    ids = torch.tensor(given).T
    batched = "freq[:, :, 0]" in inspect.getsource(cls)
    cos, sin = rotary(torch.zeros(1, len(ROWS), 8), ids[None] if batched else ids)
    cos, sin = (t if t.dim() == 3 else t[None] for t in (cos, sin))
    record = dict(
        key=key, cls=cls.__name__, dir=module.__name__.split(".")[-2], model_type=config_class.model_type, config_class=config_class.__name__,
        config=json.loads(config.to_json_string(use_diff=False)), apply=None, position_ids=axes, inv_freq=["inv_freq"],
        attention_scaling={"attention_scaling": 1.0}, cos_sin=[dict(name=f"{key}/all", layer_type=None, pos_rank=3)],
    )
    tensors[f"{key}/inv_freq"] = rotary.inv_freq.clone()
    tensors[f"{key}/all/cos"], tensors[f"{key}/all/sin"] = cos.float().contiguous().clone(), sin.float().contiguous().clone()
    d = cos.shape[-1]
    q, k = (torch.randn(1, 2, len(ROWS), d, generator=generator) for _ in "qk")
    if hasattr(module, "apply_rotary_pos_emb_vision"):
        record["apply"] = "apply_rotary_pos_emb_vision"
        turned = [y.transpose(0, 1)[None] for y in module.apply_rotary_pos_emb_vision(q[0].transpose(0, 1), k[0].transpose(0, 1), cos[0], sin[0])]
    elif hasattr(module, "apply_rotary_pos_emb_2d"):
        record["apply"] = "apply_rotary_pos_emb_2d"
        turned = module.apply_rotary_pos_emb_2d(q, k, cos=cos[0], sin=sin[0])
    elif hasattr(module, "apply_rotary_pos_emb_2d_self_attn"):
        record["apply"] = "apply_rotary_pos_emb_2d_self_attn"
        turned = module.apply_rotary_pos_emb_2d_self_attn(q, k, cos=cos[0], sin=sin[0])
    elif hasattr(module, "apply_multidimensional_rope"):
        record["apply"] = "apply_multidimensional_rope"
        turned = [module.apply_multidimensional_rope(y.transpose(1, 2), cos, sin, ids[None]).transpose(1, 2) for y in (q, k)]
    elif hasattr(module, "apply_rotary_pos_emb"):
        record["apply"] = "apply_rotary_pos_emb"
        turned = module.apply_rotary_pos_emb(q, k, cos, sin)
    else:
        return record
    for label, value in dict(q=q, k=k, q_out=turned[0], k_out=turned[1]).items():
        tensors[f"{key}/all/{label}"] = value.float().contiguous().clone()
    return record


def record_of(key, module, cls, config_class, config, apply, ids, frequencies):
    return dict(
        key=key, cls=cls.__name__, dir=module.__name__.split(".")[-2], model_type=config_class.model_type, config_class=config_class.__name__,
        config=json.loads(config.to_json_string(use_diff=False)), apply=apply, position_ids=ids, inv_freq=frequencies,
        attention_scaling={}, cos_sin=[dict(name=f"{key}/all", layer_type=None, pos_rank=3)],
    )


def keep(tensors, name, **values):
    for label, value in values.items():
        tensors[f"{name}/{label}"] = value.float().contiguous().clone()


def picture(key, module, cls, config_class, config, rotary, tensors, generator):
    """A module that is given a picture (DINOv3 and its kin): 3 x 5 patches, whose coordinates run from -1 to 1."""
    size = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    cos, sin = rotary.eval()(torch.zeros(1, 3, 3 * size, 5 * size))  # in training it moves the coordinates at random
    coordinates = module.get_patches_center_coordinates(3, 5, dtype=torch.float32, device="cpu")
    ids = (2 * math.pi * coordinates).T.tolist()
    q, k = (torch.randn(1, 2, 15, cos.shape[-1], generator=generator) for _ in "qk")
    q_out, k_out = module.apply_rotary_pos_emb(q, k, cos, sin)
    keep(tensors, key, inv_freq=rotary.inv_freq)
    keep(tensors, f"{key}/all", cos=cos[None], sin=sin[None], q=q, k=k, q_out=q_out, k_out=k_out)
    return record_of(key, module, cls, config_class, config, "apply_rotary_pos_emb", ids, ["inv_freq"])


def features(key, module, cls, config_class, config, rotary, tensors, generator):
    """EfficientLoFTR: maps of features, pooled to 3 x 5, counted from 1; the whole width turns before it is split into heads."""
    stride = config.q_aggregation_stride
    cos, sin = rotary(torch.zeros(1, 8, 3 * stride, 5 * stride))
    cos, sin = cos.flatten(1, 2), sin.flatten(1, 2)
    ids = [[1 + t // 5 for t in range(15)], [1 + t % 5 for t in range(15)]]
    # As its attention does it: [batch, tokens, 1, width].
    q, k = (torch.randn(1, 15, 1, config.hidden_size, generator=generator) for _ in "qk")
    q_out, k_out = module.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)
    keep(tensors, key, inv_freq=rotary.inv_freq)
    q, k, q_out, k_out = (x.transpose(1, 2) for x in (q, k, q_out, k_out))
    keep(tensors, f"{key}/all", cos=cos, sin=sin, q=q, k=k, q_out=q_out, k_out=k_out)
    return record_of(key, module, cls, config_class, config, "apply_rotary_pos_emb", ids, ["inv_freq"])


def llama4(key, module, cls, config_class, tensors, generator):
    """Llama 4's pictures: 3 x 3 patches counted from 1, and a token that stands for the picture and does not turn, last."""
    config = config_class(image_size=42)
    turns = cls(config)(torch.zeros(1))
    ids = [[1 + t // 3 for t in range(9)] + [0], [1 + t % 3 for t in range(9)] + [0]]
    width = config.hidden_size // config.num_attention_heads
    q, k = (torch.randn(1, 10, 2, width, generator=generator) for _ in "qk")
    q_out, k_out = module.vision_apply_rotary_emb(q, k, freqs_ci=turns)
    q, k, q_out, k_out = (x.transpose(1, 2) for x in (q, k, q_out, k_out))
    turns = turns.squeeze(1)[None]
    keep(tensors, f"{key}/all", cos=turns.real, sin=turns.imag, q=q, k=k, q_out=q_out, k_out=k_out)
    record = record_of(key, module, cls, config_class, config, "vision_apply_rotary_emb", ids, [])
    return dict(record, present=[True] * 9 + [False])


def main(out):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    records, tensors, left = [], {}, []
    root = os.path.join(os.path.dirname(transformers.__file__), "models")
    for path in sorted(glob.glob(root + "/*/modeling_*.py")):
        source = open(path).read()
        folder, file = path.split(os.sep)[-2:]
        if not re.search(r"^class \w*(?:Rotary|Rope)\w*\(", source, re.M):
            continue
        module = importlib.import_module(f"transformers.models.{folder}.{file[:-3]}")
        for name, cls in classes(module, source):
            try:
                if name == "Llama4VisionRotaryEmbedding":
                    records.append(llama4(f"grid.{folder}.{name}", module, cls, module.Llama4VisionConfig, tensors, generator))
                    continue
                if name == "CohereCompassRotaryEmbedding":
                    # Its class's defaults have no base for its layer type.
                    config_class = configs(module, cls)[0]
                    config = config_class(rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 50000.0}})
                    rotary = cls(config)
                else:
                    config_class, config, rotary = build(module, cls)
                if name == "EfficientLoFTRRotaryEmbedding":
                    records.append(features(f"grid.{folder}.{name}", module, cls, config_class, config, rotary, tensors, generator))
                if "pixel_values" in inspect.signature(rotary.forward).parameters:
                    records.append(picture(f"grid.{folder}.{name}", module, cls, config_class, config, rotary, tensors, generator))
                if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "axial":
                    records.append(grid(f"grid.{folder}.{name}", module, cls, config_class, config, rotary, tensors, generator))
                    continue
                records.append(one(f"{folder}.{name}", module, cls, config_class, config, rotary, tensors, POSITIONS, generator))
                body = "".join(inspect.getsource(c) for c in cls.__mro__ if c.__module__ == module.__name__)
                if "mrope_section" in body:
                    ids = THREE
                    if folder == "neomme":  # rows and columns take turns, without a setting
                        ids = THREE[:2]
                    elif folder == "cohere_compass":
                        config.rope_parameters["full_attention"]["mrope_section"] = SECTIONS[64]
                    else:
                        config.rope_parameters["mrope_section"] = [22, 22, 20] if "ernie" in folder else SECTIONS[len(rotary.inv_freq)]
                    rotary = cls(config)
                    records.append(one(f"mrope.{folder}.{name}", module, cls, config_class, config, rotary, tensors, ids, generator))
            except Exception as failure:
                left.append(f"{folder}.{name}: {failure!r}"[:160])
    name = "hf_rotary"
    if sys.argv[2:] == ["axes"]:
        name = "hf_axes"
        # HunYuan-VL's module turns the two coordinates of a pair by the angles of two axes, which is no rotation: its record is a finding, and the test says so.
        records = [r for r in records if r["key"].startswith(("grid.", "mrope.")) and "note" not in r]
        kept = tuple(r["key"] + "/" for r in records)
        tensors = {k: v for k, v in tensors.items() if k.startswith(kept)}
        for record in records:
            record["config"] = {k: v for k, v in record["config"].items() if k not in ("id2label", "label2id")}
    os.makedirs(out, exist_ok=True)
    json.dump(records, open(os.path.join(out, name + ".json"), "w"), indent=0 if name == "hf_axes" else None)
    save_file(tensors, os.path.join(out, name + ".safetensors"))
    print(len(records), "records; not built:")
    print("\n".join(left))


if __name__ == "__main__":
    main(sys.argv[1])
