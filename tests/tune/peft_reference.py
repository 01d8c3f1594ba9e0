"""Writes peft.json: the results of peft 0.13.2 with an adapter on SHARED/data/models/stories260k, in float64. The adapter's
values are defined by a formula (see `fill`), so that the test creates the same. With a second argument, a folder with an
adapter that lckv wrote, it prints the negative log-likelihood of peft with that adapter, and writes the adapter to the folder
in the third argument. In a separate environment:

    pip install torch==2.6.0 transformers==4.45.2 peft==0.13.2 numpy
    HF_HUB_OFFLINE=1 python3 peft_reference.py SHARED [ADAPTER FOLDER]
"""
import json
import os
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

IDS = [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 266, 267, 337, 410, 408, 419]
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def fill(parameter, number):
    """Element k of the number-th matrix, of all A and B in the order of their names."""
    flat = torch.tensor([((k * 7919 + number * 104729) % 2003) / 2003 - 0.5 for k in range(parameter.numel())])
    parameter.data.copy_((0.25 * flat).view_as(parameter))


def nll(model):
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logprobs = model(ids).logits.double().log_softmax(-1)
    return [-logprobs[0, t, IDS[t + 1]].item() for t in range(len(IDS) - 1)]


def reference(name):
    config = LoraConfig(r=3, lora_alpha=5, target_modules=MODULES, lora_dropout=0.0, task_type="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float64)
    model = get_peft_model(base, config).eval()
    named = sorted((n, p) for n, p in model.named_parameters() if "lora_" in n)
    for number, (_, parameter) in enumerate(named):
        fill(parameter, number)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with open(os.path.join(folder, "adapter_config.json")) as file:
            written = {**json.load(file), "base_model_name_or_path": None}
        tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    return {"ids": IDS, "nll": nll(model), "config": {**written, "target_modules": sorted(written["target_modules"])},
            "tensors": {n: list(t.shape) for n, t in sorted(tensors.items())}}


def round_trip(name, adapter, folder):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), adapter).eval()
    values = nll(model)
    print("mean nll", sum(values) / len(values), "of", ",".join(map(str, IDS)))
    model.save_pretrained(folder)


def main(shared, *more):
    name = os.path.join(shared, "data/models/stories260k")
    if more:
        return round_trip(name, *more)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "peft.json"), "w") as file:
        lines = [f' "{key}": {json.dumps(value)}' for key, value in reference(name).items()]
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


main(*sys.argv[1:])
