"""Writes trl.json: the results of SFTTrainer of trl 0.24.0 (transformers 4.57.1) for the first rows of
SHARED/data/sft/rasbt-instruction-data.json with the model SHARED/data/models/stories260k. For each case: the losses of 20
steps, divided as in the trainer (by `items`: labels, including a trained first token of a row, although nothing predicts
it), and the number of predicted labels. In a separate environment:

    pip install torch==2.6.0 transformers==4.57.1 trl==0.24.0 peft==0.17.1 sentencepiece protobuf
    HF_HUB_OFFLINE=1 python3 trl_reference.py SHARED
"""
import json
import os
import sys
import tempfile

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

ROWS, STEPS = 300, 20
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    "{{ 'User: ' + message.content + '\\n' }}{% else %}"
    "{{ 'Answer: ' }}{% generation %}{{ message.content + eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Answer: ' }}{% endif %}"
)
CASES = {
    "text": {"rows": "text"},
    "prompt and completion": {"rows": "completion"},
    "prompt and completion, both": {"rows": "completion", "completion_only_loss": False},
    "messages": {"rows": "messages"},
    "answers alone": {"rows": "messages", "assistant_only_loss": True},
    "messages in two parts": {"rows": "parts"},
    "cut": {"rows": "messages", "assistant_only_loss": True, "max_length": 48},
    "packed text": {"rows": "text", "packing": True, "max_length": 256},
    "packed completions": {"rows": "completion", "packing": True, "max_length": 200},
    "packed answers": {"rows": "messages", "assistant_only_loss": True, "packing": True, "max_length": 160},
}


def row_of(row, kind):
    asked = row["instruction"] + ("\n" + row["input"] if row["input"] else "")
    user, assistant = {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}
    return {
        "text": {"text": asked + "\n" + row["output"]},
        "completion": {"prompt": asked + "\n", "completion": row["output"]},
        "messages": {"messages": [user, assistant]},
        "parts": {"prompt": [user], "completion": [assistant]},
    }[kind]


class Recorder(SFTTrainer):
    """Uses rows in order, and records the result of each step."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def training_step(self, model, inputs, num_items_in_batch=None):
        labels = inputs["labels"]
        found = {"items": int(num_items_in_batch), "labels": int((labels[:, 1:] != -100).sum())}
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.kept = getattr(self, "kept", []) + [{"loss": loss.item(), **found}]
        return loss


def steps_of(name, rows, case, folder):
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
    tokenizer.chat_template = TEMPLATE
    options = {key: value for key, value in case.items() if key != "rows"}
    arguments = SFTConfig(
        output_dir=folder, max_steps=STEPS, per_device_train_batch_size=4, learning_rate=1e-3, lr_scheduler_type="constant",
        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", pad_token="<unk>",
        **{"max_length": 512, **options})
    data = Dataset.from_list([row_of(row, case["rows"]) for row in rows[:ROWS]])
    trainer = Recorder(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return {**case, **{key: [step[key] for step in trainer.kept] for key in ("loss", "items", "labels")}}


def main(shared):
    name = os.path.join(shared, "data/models/stories260k")
    with open(os.path.join(shared, "data/sft/rasbt-instruction-data.json")) as file:
        rows = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        cases = {case: steps_of(name, rows, what, folder) for case, what in CASES.items()}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "trl.json"), "w") as file:
        lines = [f'  {json.dumps(case)}: {json.dumps(what)}' for case, what in cases.items()]
        file.write(f'{{\n "trl": "{trl.__version__}",\n "transformers": "{transformers.__version__}",\n')
        file.write(f' "template": {json.dumps(TEMPLATE)},\n "rows": {ROWS},\n "cases": {{\n')
        file.write(",\n".join(lines) + "\n }\n}\n")


main(sys.argv[1])
