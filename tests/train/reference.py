"""Writes run_clm.json: the results of run_clm.py of transformers 4.45.2 for SHARED/data/text/wiki.test.raw with the model
SHARED/data/models/stories260k. The script does not accept .raw files and downloads its metric, so this file makes the same
calls in the same order: load_dataset, two maps, Trainer.evaluate. In a separate environment:

    pip install torch==2.15.0 transformers==4.45.2 datasets==3.2.0 accelerate==1.1.1 sentencepiece protobuf
    HF_HUB_OFFLINE=1 python3 reference.py SHARED
"""
import json
import math
import os
import shutil
import sys
import tempfile
from itertools import chain

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, default_data_collator

CASES = {
    "whole file": {"block_size": 128},
    "longest blocks": {"max_eval_samples": 100},
    "no line breaks": {"block_size": 64, "keep_linebreaks": False, "max_eval_samples": 500},
    "five percent": {"block_size": 200, "validation_split_percentage": 5},
}


def documents(path, case):
    arguments = {"data_files": {"train": path}, "keep_linebreaks": case.get("keep_linebreaks", True)}
    percent = case.get("validation_split_percentage")
    return load_dataset("text", split=f"train[:{percent}%]" if percent else "train", **arguments)


def blocks(rows, tokenizer, size):
    def cut(batch):
        joined = {key: list(chain.from_iterable(lists)) for key, lists in batch.items()}
        end = len(joined["input_ids"]) // size * size
        pieces = {key: [ids[at:at + size] for at in range(0, end, size)] for key, ids in joined.items()}
        return {**pieces, "labels": pieces["input_ids"]}

    encoded = rows.map(lambda batch: tokenizer(batch["text"]), batched=True, remove_columns=["text"])
    return encoded.map(cut, batched=True)


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions[:, :-1] == prediction.label_ids[:, 1:]).mean())}


def evaluate(name, path, case, folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    data = blocks(documents(path, case), tokenizer, case.get("block_size", model.config.max_position_embeddings))
    data = data.select(range(min(len(data), case.get("max_eval_samples", len(data)))))
    trainer = Trainer(
        model=model, args=TrainingArguments(output_dir=folder, use_cpu=True, report_to="none"), eval_dataset=data,
        tokenizer=tokenizer, data_collator=default_data_collator, compute_metrics=accuracy,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(dim=-1))
    found = trainer.evaluate()
    return {**case, "eval_samples": len(data), "eval_loss": found["eval_loss"],
            "eval_accuracy": found["eval_accuracy"], "perplexity": math.exp(found["eval_loss"])}


def main(shared):
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(os.path.join(shared, "data/text/wiki.test.raw"), os.path.join(folder, "wiki.txt"))
        model = os.path.join(shared, "data/models/stories260k")
        results = {name: evaluate(model, path, case, folder) for name, case in CASES.items()}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_clm.json"), "w") as file:
        json.dump(results, file, indent=2)
        file.write("\n")


main(sys.argv[1])
