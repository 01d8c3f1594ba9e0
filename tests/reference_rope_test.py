"""The RoPE types of reference/decoder.py against transformers 5.24.0.

    python3 reference_rope_test.py SOURCE_FOLDER

The expected values are those of tests/test_generate_rope.c, which also describes the model: mean negative log-likelihood
of 20 and of 40 tokens, and mean log-probability of ten decoded tokens.
"""
import sys

sys.path.insert(0, sys.argv[1] + "/reference")
import numpy as np  # noqa: E402

import decoder as reference  # noqa: E402

CONFIG = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 31, "rope_theta": 100.0, "rms_norm_eps": 1e-5}
FACTORS = {"short_factor": [1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0], "long_factor": [1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0, 16.0]}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 24, **FACTORS}
CASES = [
    ("yarn", {"max_position_embeddings": 128, "rope_scaling": YARN}, 3.49840128, 3.51238650, -3.00369429),
    ("yarn, no original", {"max_position_embeddings": 48, "rope_scaling": {"type": "yarn", "factor": 4.0}},
     3.49830385, 3.51233847, -3.00220921),
    ("yarn, all keys", {"max_position_embeddings": 128, "rope_parameters": {
        **YARN, "rope_theta": 100.0, "beta_fast": 8, "beta_slow": 2, "mscale": 0.8, "mscale_all_dim": 0.4, "truncate": False}},
     3.50056876, 3.51334949, -3.00453173),
    ("yarn, attention_factor", {"max_position_embeddings": 128, "rope_scaling": {**YARN, "attention_factor": 1.25}},
     3.49692128, 3.51145883, -3.00648261),
    ("dynamic", {"max_position_embeddings": 24, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
     3.50092663, 3.51368218, -2.99412221),
    ("longrope", {"max_position_embeddings": 96, "rope_parameters": {"rope_theta": 100.0, **LONGROPE}},
     3.49802278, 3.51212007, -3.00127116),
    ("longrope, factors", {"max_position_embeddings": 96, "rope_scaling": {**LONGROPE, "factor": 2.0, "attention_factor": 1.1}},
     3.49903490, 3.51287520, -2.99896445),
    ("longrope, factor", {"max_position_embeddings": 96, "rope_scaling": {**LONGROPE, "factor": 2.0}},
     3.49899511, 3.51284723, -2.99904863),
    ("longrope, config's original", {"max_position_embeddings": 96, "original_max_position_embeddings": 24,
                                     "rope_scaling": {"rope_type": "longrope", **FACTORS}}, 3.49802278, 3.51212007, -3.00127116),
    ("llama3, no original", {"max_position_embeddings": 96, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
     3.50010755, 3.51354552, -2.99763330),
]


def weights():
    """Element i of a tensor is 0.3 sin(0.37 i + s), where s is the sum of the bytes of its name modulo 97; norms are 1 larger."""
    shapes = {"model.embed_tokens.weight": (31, 16), "model.norm.weight": (16,), "lm_head.weight": (31, 16)}
    for i in range(2):
        p = f"model.layers.{i}."
        shapes |= {p + "self_attn.q_proj.weight": (32, 16), p + "self_attn.k_proj.weight": (16, 16),
                   p + "self_attn.v_proj.weight": (16, 16), p + "self_attn.o_proj.weight": (16, 32),
                   p + "mlp.gate_proj.weight": (24, 16), p + "mlp.up_proj.weight": (24, 16), p + "mlp.down_proj.weight": (16, 24),
                   p + "input_layernorm.weight": (16,), p + "post_attention_layernorm.weight": (16,)}
    return {name: (0.3 * np.sin(0.37 * np.arange(np.prod(shape)) + sum(name.encode()) % 97) + ("norm" in name)).reshape(shape)
            for name, shape in shapes.items()}


def decoded(decoder, ids, count):
    """Mean log-probability of greedy tokens."""
    logits, past = decoder.run_plan(ids)
    total = 0.0
    for _ in range(count):
        best = logits[-1].argmax()
        total += logits[-1, best] - np.log(np.exp(logits[-1]).sum())
        logits, past = decoder.run_sequential([best], past)
    return total / count


def main():
    ids, bad = [(7 * i * i + 3 * i + 1) % 31 for i in range(40)], 0
    for name, rope, short, long, greedy in CASES:
        decoder = reference.Decoder(CONFIG | rope, weights())
        found = [run(ids[:count])[0] for count in (20, 40) for run in (decoder.run_plan, decoder.run_sequential)]
        values = [reference.loss_of(logits, ids[:len(logits)]) for logits in found] + [decoded(decoder, ids[:20], 10)]
        for value, expected in zip(values, (short, short, long, long, greedy)):
            if not abs(value - expected) <= 2e-6 * abs(expected):  # transformers computes in float32
                print(f"{name}: expected {expected:.8f}, found {value:.8f}")
                bad += 1
    print(f"{len(CASES)} configs, {bad} values differ")
    return bad > 0


sys.exit(main())
