"""What a decoder with shared keys and values computes: the reference for lckv, in NumPy, written to be read.

It handles one sequence at a time, without padding, pages or batching. Every faster implementation has to agree with it.

    python3 reference/decoder.py FOLDER...    compare each golden folder's expected.safetensors with this file

Shapes: T tokens, H hidden size, A query heads, G key/value heads, D head size. Weights have their Hugging Face names.
Terms (slot, lookup, loop, iteration, plan) are defined in docs/model.md. reference/goldens.py writes golden folders.

Gradients use the complex-step method: every function here is analytic, so that for a real direction d and a tiny step h,
Im f(w + i h d) / h is the derivative of f along d, exact to rounding. "No gradient" then means: drop the imaginary part.
"""
import json
import pathlib
import struct
import sys

import numpy as np


# ---------------------------------------------------------------- the layer map and the plan

def read_layer_map(config):
    """layer_types "0_2s_0:1" -> for each layer the layers whose keys and values it reads, and whether its window is limited."""
    count = config["num_hidden_layers"]
    default = "_".join(str(i) for i in range(count))
    if config["model_type"] == "mistral" and config.get("sliding_window"):
        default = "_".join(f"{i}s" for i in range(count))
    entries = (config.get("layer_types") or default).split("_")
    sources = [e.removesuffix("s").split(":") for e in entries]
    return [int(s[0]) for s in sources], [int(s[-1]) for s in sources], [e.endswith("s") for e in entries]


def loop_end(source, first):
    """The last layer of the loop that starts at `first`: the smallest range that no lookup leaves."""
    last = source[first]
    while max(source[first:last + 1]) > last:
        last = max(source[first:last + 1])
    return last


def make_plan(source, m, b):
    """Passes over ranges of layers, as (layers, with gradient, commits).

    A loop is iterated m times without gradient and b times with it. Each iteration starts from the same hidden states;
    only the last one commits, that is, passes its hidden states on. All other layers run once.
    """
    passes, first = [], 0
    while first < len(source):
        if source[first] > first:
            layers = range(first, loop_end(source, first) + 1)
            passes += [(layers, i >= m, i == m + b - 1) for i in range(m + b)]
        else:
            layers = range(first, first + 1)
            passes.append((layers, True, True))
        first = layers[-1] + 1
    return passes


# ---------------------------------------------------------------- rotary positions

def inverse_frequencies(config, length):
    """Radians per position of each pair of components, [D / 2], in a sequence of `length` tokens, and the factor of its
    cosines and sines (RoFormer, Su et al. 2021; scaling as in transformers 5.24)."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta, size = scaling.get("rope_theta", config.get("rope_theta", 10000.0)), head_size(config)
    frequencies = theta ** (-np.arange(0, size, 2) / size)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    positions = config.get("max_position_embeddings", 2048)
    original = config.get("original_max_position_embeddings") or scaling.get("original_max_position_embeddings") or positions
    factor = scaling.get("factor") or positions / original
    if kind == "default":
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / factor, 1.0
    if kind == "llama3":
        turns = original * frequencies / (2 * np.pi)  # over the original context
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0, 1)  # 0: slow, divided by the factor; 1: fast, kept
        return frequencies * (keep + (1 - keep) / factor), 1.0
    if kind == "dynamic":
        growth = factor * max(length, positions) / positions - (factor - 1)
        return frequencies * growth ** (-np.arange(0, size, 2) / (size - 2)), 1.0
    if kind == "yarn":
        keep = yarn_kept(scaling, theta, size, original)
        return frequencies * (keep + (1 - keep) / factor), scaling.get("attention_factor") or yarn_attention(scaling, factor)
    if kind == "longrope":
        divisors = scaling["long_factor" if length > original else "short_factor"]
        implied = 1.0 if factor <= 1 else np.sqrt(1 + np.log(factor) / np.log(original))
        return frequencies / np.array(divisors), scaling.get("attention_factor") or implied
    raise ValueError(f"rope type: expected default, linear, dynamic, yarn, longrope or llama3, found {kind!r}")


def yarn_kept(scaling, theta, size, original):
    """How much of each pair's frequency YaRN keeps, [D / 2] (Peng et al. 2023): 1 for fast pairs, 0 for slow ones."""
    pair = lambda turns: size * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(theta))  # turns over the original context
    low, high = pair(scaling.get("beta_fast") or 32), pair(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    high += 0.001 if low == high else 0
    return 1 - np.clip((np.arange(size // 2) - low) / (high - low), 0, 1)


def yarn_attention(scaling, factor):
    """YaRN's factor of cosines and sines."""
    scale = lambda m: 1.0 if factor <= 1 else 0.1 * m * np.log(factor) + 1
    first, second = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return scale(first) / scale(second) if first and second else scale(1)


def head_size(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


# ---------------------------------------------------------------- the decoder

class Decoder:
    """`config`: config.json as a dict. `weights`: name -> array; their dtype is the dtype of all arithmetic."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights
        self.k_source, self.v_source, self.windowed = read_layer_map(config)
        self.source = [max(pair) for pair in zip(self.k_source, self.v_source)]  # the higher one decides about loops
        self.layers = range(len(self.source))
        self.strict = [self.source[i] > i or bool(config.get("force_nodiag")) for i in self.layers]
        self.kv_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        self.plan = make_plan(self.source, config.get("forward_passes", 7), config.get("backward_passes", 2))
        self.real = weights["model.norm.weight"].real.dtype

    # ------------------------------------------------ parts of a layer

    def linear(self, name, x):
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def norm(self, name, x):
        """RMSNorm over the last axis (Zhang and Sennrich 2019)."""
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + self.real.type(self.config.get("rms_norm_eps", 1e-6)))
        return x / scale * self.weights[name + ".weight"]

    def heads(self, name, norm, x):
        """A projection split into heads, [T, heads, D]; normalized per head if the model has that weight (Qwen3)."""
        y = self.linear(name, x).reshape(len(x), -1, head_size(self.config))
        return self.norm(norm, y) if norm + ".weight" in self.weights else y

    def rotate(self, x, positions, length):
        """Rotates components d and d + D/2 of x [T, heads, D] by position * frequency d, in a sequence of `length` tokens."""
        frequencies, scale = inverse_frequencies(self.config, length)
        angle = np.asarray(positions)[:, None, None] * frequencies
        cos, sin = (scale * np.cos(angle)).astype(self.real), (scale * np.sin(angle)).astype(self.real)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def keys_values(self, i, h):
        """What layer i writes to its slot, if some layer reads it: keys (not yet rotated) and values, each [T, G, D]."""
        p, slot = f"model.layers.{i}.self_attn.", {}
        if i in self.k_source:
            slot["k", i] = self.heads(p + "k_proj", p + "k_norm", h)
        if i in self.v_source:
            slot["v", i] = self.linear(p + "v_proj", h).reshape(len(h), self.kv_heads, -1)
        return slot

    def queries(self, i, h):
        p = f"model.layers.{i}.self_attn."
        return self.heads(p + "q_proj", p + "q_norm", h)

    def attend(self, q, k, v, visible):
        """q [T, A, D], k and v [S, G, D], visible [T, S] -> [T, A * D]. A query that sees no key yields zeros."""
        group = q.shape[1] // self.kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        score = np.einsum("tad,sad->ats", q, k) / self.real.type(np.sqrt(q.shape[2]))
        top = np.where(visible, score.real, -np.inf).max(-1, keepdims=True, initial=-np.inf)
        weight = np.where(visible, np.exp(np.where(visible, score - np.where(np.isinf(top), 0, top), 0)), 0)
        total = weight.sum(-1, keepdims=True)
        weight = weight / np.where(total == 0, 1, total)
        return np.einsum("ats,sad->tad", weight.astype(q.dtype), v).reshape(len(q), -1)

    def visible(self, i, queries, keys):
        """Which keys layer i's queries may see, by their positions. A window of W includes the token itself."""
        t, u = np.asarray(queries)[:, None], np.asarray(keys)[None, :]
        seen = u < t if self.strict[i] else u <= t
        return seen & (u > t - self.config["sliding_window"]) if self.windowed[i] else seen

    def residual(self, i, x, attention):
        """The rest of layer i: x plus the attention output, then plus the MLP (SwiGLU, Shazeer 2020)."""
        p = f"model.layers.{i}."
        x = x + self.linear(p + "self_attn.o_proj", attention)
        h = self.norm(p + "post_attention_layernorm", x)
        gate, up = self.linear(p + "mlp.gate_proj", h), self.linear(p + "mlp.up_proj", h)
        return x + self.linear(p + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)

    def normed_input(self, i, x):
        return self.norm(f"model.layers.{i}.input_layernorm", x)

    def layer(self, i, x, positions, slots, past, length):
        """Layer i over the new tokens x [T, H] at `positions` of a sequence of `length` tokens.

        slots: ("k", layer) -> rotated keys and ("v", layer) -> values of the new tokens; replaced if this layer owns the
        slot. A slot that was not written yet holds zeros. past: the same of earlier tokens, and "positions".
        """
        h, read = self.normed_input(i, x), (("k", self.k_source[i]), ("v", self.v_source[i]))
        for (part, _), t in self.keys_values(i, h).items():
            slots[part, i] = self.rotate(t, positions, length) if part == "k" else t
        zeros, keys = np.zeros((len(x), self.kv_heads, head_size(self.config)), x.dtype), positions
        k, v = (slots.get(name, zeros) for name in read)
        if past:
            k, v = (np.concatenate((past[name], t)) for name, t in zip(read, (k, v)))
            keys = np.concatenate((past["positions"], positions))
        q = self.rotate(self.queries(i, h), positions, length)
        return self.residual(i, x, self.attend(q, k, v, self.visible(i, positions, keys)))

    # ------------------------------------------------ forms of the forward pass

    def embed(self, ids):
        return self.weights["model.embed_tokens.weight"][np.asarray(ids)]

    def logits(self, x):
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return self.norm("model.norm", x) @ head.T

    def run_plan(self, ids, past=None):
        """The plan: all tokens at once, loops iterated. -> logits [T, V], past with the committed slots appended."""
        past = past or {}
        start, total = length(past), length(past) + len(ids)
        positions, slots, x = np.arange(start, total), {}, self.embed(ids)
        for layers, with_gradient, commits in self.plan:
            y = x
            for i in layers:
                y = self.layer(i, y, positions, slots, past, total)
            if not with_gradient:
                slots |= {name: t.real.astype(t.dtype) for name, t in slots.items() if name[1] in layers}
            if commits:
                x = y
        return self.logits(x), extend(past, slots, positions)

    def run_sequential(self, ids, past=None):
        """The exact form: token by token through all layers. -> logits [T, V], past extended by all tokens.

        All of `ids` is known, so that its length decides how each token is rotated, as in run_plan().
        """
        rows, total = [], length(past or {}) + len(ids)
        for token in ids:
            positions, slots, x = np.array([length(past or {})]), {}, self.embed([token])
            for i in self.layers:
                x = self.layer(i, x, positions, slots, past or {}, total)
            past = extend(past or {}, slots, positions)
            rows.append(self.logits(x))
        return np.concatenate(rows), past

    def run_sinks(self, ids, window, sinks):
        """A sink cache (StreamingLLM, Xiao et al. 2024), token by token. -> logits [T, V]

        The cache keeps the first `sinks` tokens and the most recent `window - sinks`. Positions are indexes into this
        list, and the new token comes behind it; keys are therefore rotated when they are read. `window` is at most the
        length from which on the frequencies of the model depend on the length (dynamic, longrope).
        """
        cache, rows = [], []  # cache: for each token, ("k", layer) -> keys before rotation, ("v", layer) -> values
        for token in ids:
            x, new, index = self.embed([token]), {}, np.array([len(cache)])
            for i in self.layers:
                h, read = self.normed_input(i, x), (("k", self.k_source[i]), ("v", self.v_source[i]))
                new |= self.keys_values(i, h)
                entries = [[kept[name] for name in read] for kept in cache + [new] if all(n in kept for n in read)]
                attention = np.zeros((1, self.config["num_attention_heads"] * head_size(self.config)), x.dtype)
                if entries:
                    k, v = (np.concatenate(part) for part in zip(*entries))
                    keys = np.arange(len(entries))
                    q, k = self.rotate(self.queries(i, h), index, window), self.rotate(k, keys, window)
                    attention = self.attend(q, k, v, self.visible(i, index, keys))
                x = self.residual(i, x, attention)
            cache.append(new)
            if len(cache) > window:
                del cache[sinks]
            rows.append(self.logits(x))
        return np.concatenate(rows)


def length(past):
    """Tokens in the past, which is also the next token's position."""
    return past["positions"][-1] + 1 if past else 0


def extend(past, slots, positions):
    new = slots | {"positions": positions}
    return {name: np.concatenate((past[name], t)) if past else t for name, t in new.items()}


# ---------------------------------------------------------------- loss, gradients, generation

def loss_of(logits, ids):
    """Mean cross-entropy of each next token."""
    logits, labels = logits[:-1], np.asarray(ids)[1:]
    top = logits.real.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
    return (log_sum - logits[np.arange(len(labels)), labels]).mean()


def derivative(loss, weights, direction):
    """The derivative of loss(weights) along `direction` (name -> array; absent names stay fixed)."""
    step = 1e-20
    moved = {n: w + 1j * step * direction[n] if n in direction else w + 0j for n, w in weights.items()}
    return loss(moved).imag / step


def gradient(loss, weights):
    """d loss / d weight, one element after the other: for small models only."""
    result = {}
    for name, w in weights.items():
        result[name] = np.empty(w.shape)
        for at in np.ndindex(w.shape):
            unit = np.zeros(w.shape)
            unit[at] = 1
            result[name][at] = derivative(loss, weights, {name: unit})
    return result


def generate(decoder, prompt, count):
    """Greedy decoding -> ids and the smallest gap between the two best logits.

    A model with loops encodes a prompt of more than m + b tokens by the plan, a shorter one token by token.
    """
    has_loop = any(s > i for i, s in enumerate(decoder.source))
    iterations = decoder.config.get("forward_passes", 7) + decoder.config.get("backward_passes", 2)
    run = decoder.run_plan if len(prompt) > iterations or not has_loop else decoder.run_sequential
    logits, past = run(prompt)
    ids, gaps = [], []
    for _ in range(count):
        second, best = np.sort(logits[-1])[-2:]
        ids.append(int(logits[-1].argmax()))
        gaps.append(best - second)
        logits, past = decoder.run_sequential(ids[-1:], past)
    return ids, min(gaps)


# ---------------------------------------------------------------- golden folders

def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    types = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[8 + size + begin:8 + size + end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def open_folder(folder):
    """-> config, weights (float64), expected tensors."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    weights = {n: w.astype(np.float64) for n, w in read_safetensors(folder / "model.safetensors").items()}
    return config, weights, read_safetensors(folder / "expected.safetensors")


def check_gradient(expected, prefix, loss, weights, random):
    """The largest relative error of a few directional derivatives against the expected gradient."""
    worst = 0.0
    for _ in range(4):
        direction = {n: random.standard_normal(w.shape) for n, w in weights.items()}
        want = sum((expected[prefix + n].astype(np.float64) * d).sum() for n, d in direction.items())
        size = np.sqrt(sum(((expected[prefix + n].astype(np.float64) * d) ** 2).sum() for n, d in direction.items()))
        worst = max(worst, abs(derivative(loss, weights, direction) - want) / size)
    return worst


def differences(folder):
    """-> name of each expected group: the largest difference from this file."""
    config, weights, expected = open_folder(folder)
    decoder, ids = Decoder(config, weights), expected["ids"]
    planned, (exact, past) = decoder.run_plan(ids)[0], decoder.run_sequential(ids)
    found = {"plan.logits": planned, "plan.loss": loss_of(planned, ids), "sequential.logits": exact,
             "streaming.logits": decoder.run_sinks(ids, 12, 3), "second.logits": decoder.run_plan(ids[14::-1], past)[0],
             "generate.short.tokens": generate(decoder, ids[:5], 16)[0], "generate.long.tokens": generate(decoder, ids[:24], 16)[0]}
    result = {name: np.abs(value - expected[name]).max() for name, value in found.items()}
    random = np.random.default_rng(0)
    for form, run in (("plan", Decoder.run_plan), ("sequential", Decoder.run_sequential)):
        if f"{form}.grad.model.norm.weight" in expected:
            loss = lambda w, run=run: loss_of(run(Decoder(config, w), ids)[0], ids)
            result[form + ".grad (relative)"] = check_gradient(expected, form + ".grad.", loss, weights, random)
    return result


def main(folders):
    bad = 0
    for folder in folders:
        found = differences(folder)
        bad += sum(not value <= 1e-5 for value in found.values())  # expected values are stored in f32
        print(folder, " ".join(f"{name} {value:.1e}" for name, value in found.items()), sep="\n  ")
    print(f"{len(folders)} folders, {bad} values differ by more than 1e-5")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
