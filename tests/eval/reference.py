"""Writes expected.json: the results of lm-evaluation-harness 0.4.13 for the documents in this folder and in
SHARED/data/eval, with the model SHARED/data/models/stories260k. Run in this folder, in a separate environment:

    pip install lm-eval==0.4.13 torch==2.15.0 transformers==5.24.0
    python3 reference.py SHARED
"""
import bz2
import gzip
import json
import os
import sys
import tempfile

import lm_eval
from lm_eval.tasks import TaskManager

ACC = [{"metric": "acc"}, {"metric": "acc_norm"}]
MMLU = {
    "output_type": "multiple_choice", "test_split": "test", "fewshot_split": "dev",
    "fewshot_config": {"sampler": "first_n"}, "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "answer",
    "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}"
                   "\nAnswer:", "metric_list": [{"metric": "acc"}],
}
LAMBADA = {
    "output_type": "loglikelihood", "test_split": "test", "fewshot_split": "test",
    "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}", "doc_to_target": "{{' '+text.split(' ')[-1]}}",
    "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
}
SCIQ = {
    "output_type": "multiple_choice", "test_split": "test", "fewshot_split": "test",
    "doc_to_text": "{{support.lstrip()}}\nQuestion: {{question}}\nAnswer:", "doc_to_target": 3,
    "doc_to_choice": "{{[distractor1, distractor2, distractor3, correct_answer]}}", "metric_list": ACC,
}


def local(text, choices="choices", target="gold"):
    return {"output_type": "multiple_choice", "test_split": "test", "fewshot_split": "test", "doc_to_text": text,
            "doc_to_choice": choices, "doc_to_target": target, "metric_list": ACC}


# See SHARED/data/README.md. fewshot_split is the split itself, so that a document is never among its own examples.
SHARED_TASKS = {
    "piqa": ("piqa.jsonl.gz", local("{{query}}Answer:")),
    "arc_easy": ("arc_easy.jsonl.gz", local("{{query}}\nAnswer:")),
    "openbookqa": ("openbook_qa.jsonl.gz", local("query")),
    "boolq": ("boolq.jsonl.gz", local("{{query}}\nAnswer:")),
    "winogrande": ("winogrande.jsonl.gz", local("gold", "context_options", "continuation")),
}


def rows(path):
    open_file = gzip.open if path.endswith(".gz") else bz2.open if path.endswith(".bz2") else open
    with open_file(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def dataset(folder, name, documents):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        for row in documents:
            file.write(json.dumps(row) + "\n")
    return path


def task(folder, name, config, files):
    paths = {split: dataset(folder, f"{name}_{split}.jsonl", documents) for split, documents in files.items()}
    return {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": paths}, **config}


def tasks(folder, shared):
    mmlu_test, mmlu_dev = rows("mmlu_test.jsonl"), rows("mmlu_dev.jsonl")
    for subject in sorted({row["subject"] for row in mmlu_test}):
        about = subject.replace("_", " ")
        config = {**MMLU, "description": f"The following are multiple choice questions (with answers) about {about}.\n\n"}
        of = lambda documents: [row for row in documents if row["subject"] == subject]
        yield 0, 50, task(folder, f"mmlu_{subject}", config, {"test": of(mmlu_test), "dev": of(mmlu_dev)})
        yield 5, 50, task(folder, f"mmlu_{subject}", config, {"test": of(mmlu_test), "dev": of(mmlu_dev)})
    for shots in 0, 2:
        yield shots, 50, task(folder, "lambada_openai", LAMBADA, {"test": rows("lambada_test.jsonl")})
        yield shots, 50, task(folder, "sciq", SCIQ, {"test": rows("sciq_test.jsonl")})
    for name, (file, config) in SHARED_TASKS.items():
        yield 3, 5, task(folder, name, config, {"test": rows(os.path.join(shared, "data/eval", file))})


def summary(results, name):
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    metrics = {key: value for key, value in results["results"][name].items() if "," in key}
    answers = [[[round(float(r[0][0]), 4), bool(r[0][1])] for r in s["resps"]] for s in samples]
    return {"metrics": metrics, "loglikelihoods": [[a[0] for a in s] for s in answers],
            "greedy": [[a[1] for a in s] for s in answers],
            "first_document": [list(pair)[:2] for pair in samples[0]["arguments"]]}


def main():
    shared, expected = sys.argv[1], {}
    model = "pretrained=" + os.path.join(shared, "data/models/stories260k") + ",dtype=float32"
    with tempfile.TemporaryDirectory() as folder:
        for shots, limit, config in tasks(folder, shared):
            results = lm_eval.simple_evaluate(model="hf", model_args=model, tasks=[config], num_fewshot=shots,
                                              limit=limit, task_manager=TaskManager(), device="cpu")
            found = summary(results, config["task"])
            if config["task"] in SHARED_TASKS:
                del found["first_document"]  # their texts may not be copied here
            expected[f"{config['task']} {shots}"] = found
    with open("expected.json", "w", encoding="utf-8") as file:
        json.dump(expected, file, separators=(",", ":"))
        file.write("\n")


main()
