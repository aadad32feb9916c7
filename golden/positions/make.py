"""Writes mrope.json and resize.json beside this file: position ids of Qwen-VL models, and resized tables.

    python golden/positions/make.py        with torch 2.15.0 and transformers 5.23.0, on CPU
"""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from transformers import vision_utils
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

HERE = Path(__file__).parent
MERGE = 2
TOKENS_PER_SECOND = 2
rng = random.Random(4)
torch.manual_seed(4)


def tokens(grid):
    t, h, w = grid
    return t * h * w // MERGE**2


def row(model):
    """Segments: ["text", n], ["image", grid], ["video", grid, seconds] or, for Qwen3-VL, ["frame", grid]."""
    segments = [["text", rng.randint(1, 5)]]
    for _ in range(rng.randint(0, 3)):
        grid = [1, MERGE * rng.randint(1, 4), MERGE * rng.randint(1, 4)]
        if rng.random() < 0.5:
            segments.append(["image", grid])
        else:
            grid[0] = rng.randint(1, 5)
            if model == "qwen3_vl":
                for _ in range(grid[0]):
                    segments += [["frame", [1] + grid[1:]], ["text", rng.randint(1, 3)]]
                segments[-1:] = []
            else:
                segments.append(["video", grid, rng.choice([0.25, 0.4, 0.5, 0.7, 1.0, 1.3, 2.0, 7.0])])
        segments.append(["text", rng.randint(1, 5)])
    return segments


def mrope_case(name, cls, padding):
    rows = [row(name) for _ in range(3)]
    lens = [sum(s[1] if s[0] == "text" else tokens(s[1]) for s in r) for r in rows]
    types = torch.zeros(len(rows), max(lens), dtype=torch.int)
    mask = torch.zeros_like(types)
    images, videos, seconds = [], [], []
    for b, (segments, n) in enumerate(zip(rows, lens)):
        at = max(lens) - n if padding == "left" else 0
        mask[b, at : at + n] = 1
        clip = []
        for s in segments:
            kind, size = s[0], s[1] if s[0] == "text" else tokens(s[1])
            types[b, at : at + size] = {"text": 0, "image": 1, "video": 2, "frame": 2}[kind]
            at += size
            if kind == "image":
                images.append(s[1])
            if kind == "video":
                videos.append(s[1])
                seconds.append(s[2])
            if kind == "frame":
                clip.append(s[1])
        # Qwen3-VL splits a video's grid itself; one of a single frame is left as it is.
        videos += clip
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=MERGE, tokens_per_second=TOKENS_PER_SECOND))
    model = SimpleNamespace(config=config)
    model.get_vision_position_ids = lambda *a, **k: cls.get_vision_position_ids(model, *a, **k)
    kwargs = dict(
        image_grid_thw=torch.tensor(images) if images else None,
        video_grid_thw=torch.tensor(videos) if videos else None,
        attention_mask=mask,
    )
    if cls is Qwen2_5_VLModel:
        kwargs["second_per_grid_ts"] = torch.tensor(seconds)
    ids, deltas = cls.get_rope_index(model, torch.ones_like(types, dtype=torch.long), types, **kwargs)
    return {
        "model": name,
        "padding": padding,
        "rows": rows,
        "mask": mask.tolist(),
        "position_ids": ids.tolist(),
        "deltas": deltas.flatten().tolist(),
    }


def vision_case():
    grids = [[rng.randint(1, 3), MERGE * rng.randint(1, 4), MERGE * rng.randint(1, 4)] for _ in range(rng.randint(1, 3))]
    grid_thw = torch.tensor(grids)
    return {
        "grids": grids,
        "position_ids": vision_utils.get_vision_position_ids(grid_thw, MERGE).tolist(),
        "cu_seqlens": vision_utils.get_vision_cu_seqlens(grid_thw).tolist(),
    }


def linear_case(rows, new, align_corners):
    table = torch.randn(rows, 2, dtype=torch.float64)
    out = F.interpolate(table.T[None], size=new, mode="linear", align_corners=align_corners)[0].T
    return {"align_corners": align_corners, "table": table.tolist(), "out": out.tolist()}


def bicubic_case(old, new, antialias, align_corners=False, offset=None):
    """With `offset`, as DINO's code does: a scale of (new + offset) / old, which moves the sampled places."""
    table = torch.randn(1, old[0], old[1], 2, dtype=torch.float64)
    scale = [(n + offset) / o for n, o in zip(new, old)] if offset is not None else None
    out = F.interpolate(
        table.permute(0, 3, 1, 2),
        **({"scale_factor": scale} if scale else {"size": new}),
        mode="bicubic",
        antialias=antialias,
        align_corners=align_corners,
    ).permute(0, 2, 3, 1)
    assert list(out.shape[1:3]) == new
    return {
        "old": old,
        "new": new,
        "antialias": antialias,
        "align_corners": align_corners,
        "scale": scale,
        "table": table.reshape(-1, 2).tolist(),
        "out": out.reshape(-1, 2).tolist(),
    }


def write(name, value):
    # One record a line.
    parts = [f" {json.dumps(k)}: [\n  " + ",\n  ".join(json.dumps(r, separators=(",", ":")) for r in v) + "\n ]" for k, v in value.items()]
    (HERE / name).write_text("{\n" + ",\n".join(parts) + "\n}\n")


models = [("qwen2_vl", Qwen2VLModel), ("qwen2_5_vl", Qwen2_5_VLModel), ("qwen3_vl", Qwen3VLModel)]
write(
    "mrope.json",
    {
        "rope_index": [mrope_case(name, cls, padding) for name, cls in models for padding in ["left", "right"] for _ in range(2)],
        "vision": [vision_case() for _ in range(4)],
    },
)
write(
    "resize.json",
    {
        "linear": [linear_case(old, new, corners) for old, new in [(4, 7), (7, 4), (5, 5), (1, 3), (3, 1)] for corners in [False, True]],
        "bicubic": [
            *(bicubic_case(old, new, antialias) for antialias in [False, True] for old, new in [([4, 4], [6, 6]), ([5, 5], [3, 2]), ([3, 5], [5, 3]), ([2, 2], [2, 2])]),
            *(bicubic_case([4, 3], [6, 2], antialias, align_corners=True) for antialias in [False, True]),
            *(bicubic_case([4, 4], [6, 3], antialias, offset=0.1) for antialias in [False, True]),
        ],
    },
)
