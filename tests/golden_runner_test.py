#!/usr/bin/env python3
"""The golden runner on changed copies of a folder: it names the groups that a folder lacks, uses the tolerance that the
folder's README.md states where there is no f32_error, and fails where a value is wrong or not finite.

    golden_runner_test.py GOLDEN FOLDER      the runner; a golden folder with f32_error
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

RUNNER, FOLDER = sys.argv[1:]


def read(path):
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    metadata = header.pop("__metadata__", {})
    tensors = {name: (t, data[t["data_offsets"][0] : t["data_offsets"][1]]) for name, t in header.items()}
    return metadata, tensors


def write(path, metadata, tensors):
    header, data = {"__metadata__": metadata}, b""
    for name, (t, values) in tensors.items():
        header[name] = dict(t, data_offsets=[len(data), len(data) + len(values)])
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def run(change, readme=None):
    """The runner's exit status and output on a copy whose metadata and tensors `change` has changed."""
    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, "copy")
        shutil.copytree(FOLDER, folder)
        path = os.path.join(folder, "expected.safetensors")
        metadata, tensors = read(path)
        change(metadata, tensors)
        write(path, metadata, tensors)
        if readme is not None:
            with open(os.path.join(folder, "README.md"), "w") as f:
                f.write(readme)
        done = subprocess.run([RUNNER, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout


def expect(what, result, status, *texts):
    code, output = result
    output = "\n".join(line for line in output.split("\n") if "allowed 1.00e-02" not in line and ".grad." not in line)
    assert code == status, "%s: exit status %d, expected %d:\n%s" % (what, code, status, output)
    for text in texts:
        assert text in output, "%s: '%s' is missing in:\n%s" % (what, text, output)


def without_groups(first):
    def change(metadata, tensors):
        for name in [n for n in tensors if n.startswith(first)]:
            del tensors[name]

    return change


def change_first(name, offset):
    """Adds `offset` to the first value."""

    def change(metadata, tensors):
        t, values = tensors[name]
        tensors[name] = (t, struct.pack("<f", struct.unpack("<f", values[:4])[0] + offset) + values[4:])

    return change


def without_errors(offset):
    def change(metadata, tensors):
        for key in [k for k in metadata if k.startswith("f32_error")]:
            del metadata[key]
        change_first("plan.logits", offset)(metadata, tensors)

    return change


def main():
    expect("unchanged", run(lambda metadata, tensors: None), 0, "lacks ", "sequential.grad", "1 group is lacking in the folders and not checked", " 0 failed")
    _, tensors = read(os.path.join(FOLDER, "expected.safetensors"))
    groups = {".".join(name.split(".")[:2]) for name in tensors if "." in name}
    groups = sorted(g for g in groups if g != "plan.logits" and not g.endswith("margin"))
    assert len(groups) >= 5, groups
    for group in groups:
        expect("without " + group, run(without_groups(group)), 0, "lacks ", group + ": the folder has no such group",
               "lacking in the folders and not checked", " 0 failed")
    expect("without logits", run(without_groups("plan.logits")), 1, "expected.safetensors has no ids or no plan.logits")
    part = next(name for name in tensors if name.startswith("train.final."))
    expect("a group with a hole", run(without_groups(part)), 1, "FAILED", part)

    unknown = lambda metadata, tensors: tensors.update({"plan.unknown": tensors["plan.logits"]})
    expect("a tensor that nobody checks", run(unknown), 1, "plan.unknown: expected, and not checked")
    expect("a wrong value", run(change_first("plan.logits", 1e-2)), 1, "FAILED")
    expect("NaN", run(change_first("plan.logits", float("nan"))), 1, "values that are not finite")

    expect("no f32_error", run(without_errors(0)), 0, "allowed 1.00e-05")
    expect("no f32_error, wrong", run(without_errors(1e-3)), 1, "float32 plan.logits", "allowed 1.00e-05")
    readme = "# Folder\n\nf32 tolerance: 2e-3\n"
    expect("README", run(without_errors(1e-3), readme), 0, "allowed 2.00e-03", " 0 failed")
    expect("README, wrong", run(without_errors(3e-3), readme), 1, "allowed 2.00e-03")
    for number in ["inf", "nan", "-1"]:
        result = run(without_errors(0), "f32 tolerance: %s\n" % number)
        expect(number, result, 1, "'f32 tolerance' should be a positive number")
    print("ok")


main()
