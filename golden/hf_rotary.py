"""Reference vectors of every rotary module of transformers: one record per module that builds from a default config.

    python hf_rotary.py OUT        writes OUT/hf_rotary.json and OUT/hf_rotary.safetensors
    python hf_rotary.py OUT axes   writes OUT/hf_axes.json and OUT/hf_axes.safetensors: those with several axes alone, each with unequal positions

Needs torch and transformers 5.23.0. The records have the fields of `golden/hf_rotary.json`.
"""

import glob
import importlib
import inspect
import json
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
                config_class, config, rotary = build(module, cls)
                if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "axial":
                    records.append(grid(f"grid.{folder}.{name}", module, cls, config_class, config, rotary, tensors, generator))
                    continue
                records.append(one(f"{folder}.{name}", module, cls, config_class, config, rotary, tensors, POSITIONS, generator))
                body = inspect.getsource(cls)
                if "mrope_section" in body:
                    pairs = len(rotary.inv_freq)
                    config.rope_parameters["mrope_section"] = [22, 22, 20] if "ernie" in folder else SECTIONS[pairs]
                    rotary = cls(config)
                    records.append(one(f"mrope.{folder}.{name}", module, cls, config_class, config, rotary, tensors, THREE, generator))
            except Exception as failure:
                left.append(f"{folder}.{name}: {failure!r}"[:160])
    name = "hf_rotary"
    if sys.argv[2:] == ["axes"]:
        name = "hf_axes"
        # HunYuan-VL's module turns the two coordinates of a pair by the angles of two axes, which is no rotation; its authors' own code does not.
        records = [r for r in records if r["key"].startswith(("grid.", "mrope.")) and "note" not in r and r["dir"] != "hunyuan_vl"]
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
