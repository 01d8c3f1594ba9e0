"""Writes golden folders: a small random model and what reference/decoder.py computes with it.

    python3 reference/goldens.py OUT/NAME CONFIG.json [SEED]

CONFIG.json is a config.json; keep it tiny, because gradients take one forward pass per weight element. The folder gets
config.json, model.safetensors and expected.safetensors (names and tolerances: reference/README.md).
"""
import json
import pathlib
import struct
import sys

import numpy as np

import decoder as reference

TOKENS, WINDOW, SINKS, STEPS = 40, 12, 3, 4


def write_safetensors(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, value in tensors.items():
        kind = "I32" if value.dtype == np.int32 else "F32"
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(value.tobytes() for value in tensors.values()))


def random_weights(config, random):
    """Weights under their Hugging Face names, with f32 values; large enough that every layer changes the logits."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    size = reference.head_size(config)
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    k_source, v_source, _ = reference.read_layer_map(config)
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for i in range(len(k_source)):
        p = f"model.layers.{i}."
        shapes |= {p + "self_attn.q_proj.weight": (queries, hidden), p + "self_attn.o_proj.weight": (hidden, queries),
                   p + "mlp.gate_proj.weight": (inner, hidden), p + "mlp.up_proj.weight": (inner, hidden),
                   p + "mlp.down_proj.weight": (hidden, inner), p + "input_layernorm.weight": (hidden,),
                   p + "post_attention_layernorm.weight": (hidden,)}
        if i in k_source:
            shapes[p + "self_attn.k_proj.weight"] = (keys, hidden)
        if i in v_source:
            shapes[p + "self_attn.v_proj.weight"] = (keys, hidden)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocabulary, hidden)
    scale = {1: 0.1, 2: 0.9 / hidden ** 0.5}
    return {name: (random.standard_normal(shape) * scale[len(shape)] + (len(shape) == 1)).astype(np.float32)
            for name, shape in shapes.items()}


def loss_function(config, ids):
    return lambda weights: reference.loss_of(reference.Decoder(config, weights).run_plan(ids)[0], ids)


def train(config, weights, ids):
    """Four steps of AdamW (Loshchilov and Hutter 2019) on both halves of ids -> losses, gradient norms, final weights.

    Learning rate 0.01, betas 0.9 and 0.95, eps 1e-8, weight decay 0.1 on matrices; the global norm is clipped to 1.
    """
    halves = [loss_function(config, ids[:TOKENS // 2]), loss_function(config, ids[TOKENS // 2:])]
    mean = lambda w: (halves[0](w) + halves[1](w)) / 2
    weights = {n: w.astype(np.float64) for n, w in weights.items()}
    first, second = ({n: np.zeros(w.shape) for n, w in weights.items()} for _ in range(2))
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        losses.append(mean(weights))
        gradient = reference.gradient(mean, weights)
        norms.append(np.sqrt(sum((g * g).sum() for g in gradient.values())))
        clip = min(1.0, 1.0 / (norms[-1] + 1e-6))
        for n, w in weights.items():
            g = gradient[n] * clip
            first[n] = 0.9 * first[n] + 0.1 * g
            second[n] = 0.95 * second[n] + 0.05 * g * g
            update = first[n] / (1 - 0.9 ** step) / (np.sqrt(second[n] / (1 - 0.95 ** step)) + 1e-8)
            weights[n] = w * (1 - 0.01 * 0.1 * (w.ndim == 2)) - 0.01 * update
    return np.array(losses), np.array(norms), weights


def forward_values(config, weights, ids):
    decoder = reference.Decoder(config, weights)
    planned, (exact, past) = decoder.run_plan(ids)[0], decoder.run_sequential(ids)
    short, short_gap = reference.generate(decoder, ids[:5], 16)
    long, long_gap = reference.generate(decoder, ids[:24], 16)
    return {"plan.logits": planned, "plan.loss": np.array([reference.loss_of(planned, ids)]), "sequential.logits": exact,
            "streaming.logits": decoder.run_sinks(ids, WINDOW, SINKS), "second.logits": decoder.run_plan(ids[14::-1], past)[0],
            "generate.short.tokens": np.array(short), "generate.long.tokens": np.array(long),
            "generate.margin": np.array([min(short_gap, long_gap)])}


def expected_values(config, weights, ids):
    """-> name: value in float64 (tokens in int32), and the metadata with the error of float32 arithmetic per group."""
    exact = {n: w.astype(np.float64) for n, w in weights.items()}
    values, single = forward_values(config, exact, ids), forward_values(config, weights, ids)
    errors = {"f32_error." + n: f"{np.abs(v - single[n]).max():.3g}" for n, v in values.items() if v.dtype != int}
    loss = loss_function(config, ids)
    gradient, rounded = reference.gradient(loss, exact), reference.gradient(loss, weights)
    values |= {f"plan.grad.{n}": g for n, g in gradient.items()}
    errors["f32_error.plan.grad"] = f"{max(np.abs(g - rounded[n]).max() for n, g in gradient.items()):.3g}"
    values["train.losses"], values["train.grad_norms"], final = train(config, weights, ids)
    return values | {"train.final." + n: w for n, w in final.items()}, errors


def main(folder, config_path, seed="0"):
    config = json.loads(pathlib.Path(config_path).read_text())
    for attempt in range(int(seed), int(seed) + 100):  # the first seed whose greedy choices are clear
        random = np.random.default_rng(attempt)
        weights, ids = random_weights(config, random), random.integers(0, config["vocab_size"], TOKENS)
        if forward_values(config, {n: w.astype(np.float64) for n, w in weights.items()}, ids)["generate.margin"] > 0.01:
            break
    values, errors = expected_values(config, weights, ids)
    stored = {n: v.astype(np.int32 if v.dtype == int else np.float32) for n, v in ({"ids": ids} | values).items()}
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", weights, {"format": "pt"})
    write_safetensors(folder / "expected.safetensors", stored, errors)
    print(f"{folder}: seed {attempt}, loss {values['plan.loss'][0]:.4f}, margin {values['generate.margin'][0]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
