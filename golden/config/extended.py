"""Writes extended.json: what transformers 5.23.0 makes of configurations that `posenc extend` wrote.

    cargo build -p posenc-cli && python3 golden/config/extended.py target/debug/posenc

Each fixture of the reader is extended to four times its length by each method; transformers reads the result, and its own functions
compute the frequencies of a call of that length. A record has the keys that were written, what the configuration class warned of, and
the frequencies (f32) with the factor of the tables, per layer type where there are several.
"""

import glob
import importlib
import inspect
import json
import logging
import os
import subprocess
import sys

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, model_type_to_module_name

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "../../crates/posenc/src/config/fixtures")
# Those whose records are kept: one of each layout.
KEPT = [
    "deepseek-v3", "gemma-3-1b", "gpt-oss-20b", "llama-3.1-8b", "ministral-3-8b", "mixtral-8x7b", "modernbert-base", "olmo-3-7b", "phi-3-mini-128k",
    "pythia-6.9b", "qwen2-vl-7b", "qwen2.5-7b-yarn", "smollm3-3b",
]
METHODS = ["yarn", "linear", "dynamic", "ntk", "llama3", "longrope"]


class Heard(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


heard = Heard()
logging.getLogger("transformers").addHandler(heard)
logging.getLogger("transformers").propagate = False


def config_of(file, path):
    # Logged once each: forget, so that each file hears its own.
    from transformers.utils.logging import warning_once

    warning_once.cache_clear()
    config = CONFIG_MAPPING[file["model_type"]].from_dict(file)
    for key in filter(None, path.split(".")):
        config = getattr(config, key)
    # Flat files of models for text and pictures are taken apart by their class.
    return config if path else config.get_text_config()


def default_function(config):
    module = importlib.import_module(f"transformers.models.{model_type_to_module_name(config.model_type)}")
    module = importlib.import_module(module.__name__ + ".modeling_" + module.__name__.split(".")[-1])
    for name, value in vars(module).items():
        if name.endswith("RotaryEmbedding") and "Vision" not in name and hasattr(value, "compute_default_rope_parameters"):
            return value.compute_default_rope_parameters
    raise LookupError(config.model_type)


def frequencies(config, label, length):
    dictionary = config.rope_parameters[label] if label else config.rope_parameters
    kind = dictionary["rope_type"]
    function = ROPE_INIT_FUNCTIONS[kind] if kind in ROPE_INIT_FUNCTIONS else default_function(config)
    arguments = {"config": config, "device": "cpu"}
    if kind in ROPE_INIT_FUNCTIONS:
        # Dynamic scaling gets its length as a tensor, as in a forward pass.
        arguments["seq_len"] = torch.tensor(length) if kind == "dynamic" else length
    if label and "layer_type" in inspect.signature(function).parameters:
        arguments["layer_type"] = label
    inv_freq, factor = function(**arguments)
    return {"type": kind, "inv_freq": inv_freq.float().tolist(), "attention_scaling": float(factor)}


def rope_keys(part):
    return {key: value for key, value in part.items() if "rope" in key or "rotary" in key or "position" in key}


def main(posenc):
    records, refused = [], []
    for path in sorted(glob.glob(os.path.join(FIXTURES, "*.json"))):
        name = os.path.basename(path)[:-5]
        for method in METHODS:
            command = [posenc, "extend", path, "--method", method, "--replace", "--json", "--to"]
            asked = {}
            length = None
            for attempt in range(2):
                ran = subprocess.run(command + ["1048576000"] + [str(x) for pair in asked.items() for x in ("--" + pair[0], pair[1])], capture_output=True, text=True)
                if ran.returncode == 0:
                    length = 4 * json.loads(ran.stdout)["original"]
                elif "--original says it" in ran.stderr:
                    asked["original"] = 4096
                    continue
                break
            if length is None:
                refused.append({"file": name, "method": method, "reason": ran.stderr.strip().split(": ", 2)[-1]})
                continue
            ran = subprocess.run(command + [str(length)] + [str(x) for pair in asked.items() for x in ("--" + pair[0], pair[1])], capture_output=True, text=True, check=True)
            report = json.loads(ran.stdout)
            file = report["config"]
            if file["model_type"] not in CONFIG_MAPPING:
                refused.append({"file": name, "method": method, "reason": "transformers has no such model type"})
                continue
            heard.lines.clear()
            # transformers fills dictionaries in.
            part = json.loads(ran.stdout)["config"]
            for key in filter(None, report["path"].split(".")):
                part = part[key]
            try:
                config = config_of(file, report["path"])
                labels = config.nested_rope_parameter_keys(config.rope_parameters) or [None]
                found = {label or "": frequencies(config, label, length) for label in labels if not label or config.rope_parameters[label]}
            except Exception as error:
                print("!!", name, method, type(error).__name__, str(error)[:300])
                continue
            records.append({
                "file": name, "method": method, "to": length, **asked, "path": report["path"],
                "written": rope_keys(part), "warnings": list(heard.lines), "layers": found,
            })
            # Here already, and in f32's last places by the test that reads the records that are kept.
            for plan in report["plans"]:
                own = found.get("") or found[plan["kind"]]
                waves = [wave for wave in plan["wavelengths"]]
                assert len(waves) == len(own["inv_freq"]), (name, method, len(waves))
                for wave, theta in zip(waves, own["inv_freq"]):
                    assert abs(theta * (wave or 0) / 6.283185307179586 - (wave is not None)) < 2e-6, (name, method, wave, theta)
                assert abs(plan["table_factor"][1] - own["attention_scaling"]) < 1e-12, (name, method)
            for line in heard.lines:
                print("warns", name, method, line[:200])
    with open(os.path.join(HERE, "extended.json"), "w") as out:
        kept = [record for record in records if record["file"] in KEPT]
        for record in kept:
            for layers in record["layers"].values():
                # Nine digits tell every f32.
                layers["inv_freq"] = [float(f"{x:.9g}") for x in layers["inv_freq"]]
        lines = ",\n".join(json.dumps(record) for record in kept)
        out.write('{"transformers": "5.23.0", "records": [\n' + lines + "\n]}\n")
    print(len(records), "agree,", len(kept), "kept,", len(refused), "refused")
    for reason in sorted({r["reason"] for r in refused}):
        print("-", reason, [(r["file"], r["method"]) for r in refused if r["reason"] == reason][:3])


main(sys.argv[1])
