"""Tests of python/lckv.py: its structs equal those of the header, and its results equal the golden models.

    python_test.py SOURCE LIBRARY SHARED      exits with 77 (skipped) if numpy is absent
"""

import ctypes
import ctypes.util
import glob
import os
import re
import sys
import tempfile

try:
    import numpy
except ImportError:
    print("skipped: python3 has no numpy")
    sys.exit(77)

SOURCE, LIBRARY, SHARED = sys.argv[1:4]
sys.path.insert(0, os.path.join(SOURCE, "python"))
sys.dont_write_bytecode = True
import lckv  # noqa: E402

lckv.use_library(LIBRARY)


# ---------------------------------------------------------------- header


def declared(header, name):
    """(name, kind) of the fields of a struct in the header, in order."""
    body = re.search(r"typedef struct %s \{(.*?)\n\} %s;" % (name, name), header, re.S).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    fields = []
    for line in body.split(";"):
        line = " ".join(line.split())
        if not line:
            continue
        callback = re.match(r"bool \(\*(\w+)\)", line)
        if callback:
            fields.append((callback.group(1), "pointer"))
            continue
        first, *rest = line.split(",")
        kind, first = re.match(r"(.*?)(\**\w+)$", first).groups()
        for one in [first] + rest:
            stars = "*" in one or "*" in kind or kind.strip().endswith("callback")
            fields.append((one.strip(" *"), "pointer" if stars else kind.replace("const", "").strip()))
    return fields


SIZES = {"lckv_prompt": 16, "int64_t": 8, "uint64_t": 8, "double": 8, "size_t": 8, "pointer": 8, "int": 4, "bool": 1}


def structs_are_the_headers():
    header = ""
    for path in glob.glob(os.path.join(SOURCE, "include", "lckv", "*.h")):
        with open(path) as file:
            header += file.read()
    for name in ("model_options", "config_info", "prompt", "generate_options", "sequence", "generation", "score_options",
                 "engine_options", "request", "event", "chat", "chat_text"):  # fmt: skip
        mirror = getattr(lckv, "_" + "".join(word.capitalize() for word in name.split("_")))
        expected = declared(header, "lckv_" + name)
        assert [f[0] for f in mirror._fields_] == [f[0] for f in expected], (name, expected)
        for (field, kind), (_, c_kind) in zip(mirror._fields_, expected):
            assert ctypes.sizeof(kind) == SIZES.get(c_kind, 4), (name, field, c_kind)  # else an enum


# ---------------------------------------------------------------- goldens


def golden(name):
    folder = os.path.join(SHARED, "goldens", name)
    expected = lckv.read_safetensors(os.path.join(folder, "expected.safetensors"))
    with open(os.path.join(folder, "expected.safetensors"), "rb") as file:
        header = lckv.json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tolerances = {k[len("f32_error.") :]: float(v) for k, v in header["__metadata__"].items() if k.startswith("f32_error")}
    return folder, expected, tolerances


def assert_close(found, right, tolerance, what):
    difference = numpy.abs(found.astype(float) - right)
    assert found.shape == right.shape and numpy.isfinite(difference).all(), (what, found.shape, right.shape)
    assert difference.max() <= tolerance, (what, difference.max(), tolerance)


def logits_are_the_oracles(name):
    folder, expected, errors = golden(name)
    model, ids = lckv.Model(folder, device="cpu", threads=2), expected["ids"]
    ways = {"plan": {"encoding": "plan"}, "sequential": {"encoding": "sequential"},
            "streaming": {"window_length": 12, "num_sink_tokens": 3}}  # fmt: skip
    for way, options in ways.items():
        group = way + ".logits"
        if group in expected:
            found = model.logits(ids, **options)
            assert_close(found, expected[group], max(10 * errors[group], 1e-5), (name, way))
    for length, group in ((5, "short"), (24, "long")):
        right = expected[f"generate.{group}.tokens"]
        if f"generate.{group}.tokens" in expected:
            made = model.generate(ids[:length], length=16, temperature=0, ignore_eos=True)
            assert (made[0].ids == right).all(), (name, group)
            assert made[0].finish == "length" and made[0].text is None


# ---------------------------------------------------------------- activations


def norm(x, weight, epsilon):
    return x / numpy.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def what_was_dumped_belongs_together(name, **options):
    """Recomputes each layer from the dumped tensors and the weights: x + o_proj(attn) + mlp; v from the layer below; rotation
    keeps the length of each pair of a key; the last layer yields the logits. Tolerance: f32 sums of about 100 terms."""
    folder, expected, _ = golden(name)
    model, ids = lckv.Model(folder, device="cpu", threads=2), expected["ids"]
    w = {k.removeprefix("model."): v.astype(float) for k, v in
         lckv.read_safetensors(os.path.join(folder, "model.safetensors")).items()}  # fmt: skip
    with open(os.path.join(folder, "config.json")) as file:
        epsilon = lckv.json.load(file)["rms_norm_eps"]
    c, d = model.config, model.dump(ids, **options)
    x = w["embed_tokens.weight"][ids]
    owners = 0
    for i in range(c["layers"]):
        at, inside = f"layers.{i}.", {k: v for k, v in w.items() if k.startswith(f"layers.{i}.")}

        def linear(rows, part):
            return rows @ inside[f"{at}{part}.weight"].T + inside.get(f"{at}{part}.bias", 0)

        h = norm(x, w[at + "input_layernorm.weight"], epsilon)
        if at + "v" in d:
            owners += 1
            assert_close(d[at + "v"], linear(h, "self_attn.v_proj"), 1e-4, (name, at + "v"))
            if at + "self_attn.k_norm.weight" not in w:
                right = linear(h, "self_attn.k_proj").reshape(len(ids), c["kv_heads"], 2, -1)
                keys = d[at + "k"].reshape(right.shape)
                assert_close(numpy.hypot(keys[:, :, 0], keys[:, :, 1]), numpy.hypot(right[:, :, 0], right[:, :, 1]),
                             1e-4, (name, at + "k"))  # fmt: skip
        x = x + linear(d[at + "attn"], "self_attn.o_proj")
        h = norm(x, w[at + "post_attention_layernorm.weight"], epsilon)
        gate = linear(h, "mlp.gate_proj")
        x = x + linear(gate / (1 + numpy.exp(-gate)) * linear(h, "mlp.up_proj"), "mlp.down_proj")
        assert_close(d[at + "hidden"], x, 1e-4, (name, at + "hidden"))
        x = d[at + "hidden"].astype(float)
    assert owners == c["kv_slots"]
    head = w.get("lm_head.weight", w["embed_tokens.weight"])
    assert_close(model.logits(ids, **options), norm(x, w["norm.weight"], epsilon) @ head.T, 1e-3, (name, "logits"))


def runs_are_told_apart():
    folder, expected, _ = golden("lckv-w2")
    model, ids = lckv.Model(folder, device="cpu", threads=2), expected["ids"]
    c = model.config
    runs = c["forward_passes"] + c["backward_passes"]
    all_runs = model.dump(ids, "layers.6.*", iterations=True, encoding="plan")
    last = model.dump(ids, "layers.6.*", encoding="plan")
    assert sorted(k for k in all_runs if k.endswith(".k")) == [f"layers.6.run.{r}.k" for r in range(runs)]
    assert [k for k in all_runs if k.endswith(".hidden")] == [f"layers.6.run.{runs - 1}.hidden"]  # only the last iteration computes it
    for what in ("hidden", "attn", "k", "v"):
        assert (all_runs[f"layers.6.run.{runs - 1}.{what}"] == last[f"layers.6.{what}"]).all()
    # Token i is exact from iteration i + 1 on (docs/model.md): equal to the exact form up to rounding.
    exact = model.dump(ids, "layers.6.v", encoding="sequential")["layers.6.v"]
    for r in range(runs):
        assert_close(all_runs[f"layers.6.run.{r}.v"][: r + 1], exact[: r + 1], 1e-4, f"run {r}")
    first = model.dump(ids, "layers.1.run.0.attn", iterations=True, encoding="plan")["layers.1.run.0.attn"]
    assert not first.any()  # the first token looks up nothing


# ---------------------------------------------------------------- text, errors


def text_goes_both_ways():
    folder = os.path.join(SHARED, "data", "models", "stories260k")
    if not os.path.exists(folder):
        print("skipped: no text,", folder, "is absent")
        return
    model = lckv.Model(folder, device="cpu", threads=2)
    ids = model.encode("Once upon a time")
    assert ids.dtype == numpy.int32 and model.decode(ids) == "Once upon a time"
    one, two = model.generate(["Once upon", "The dog"], length=8, temperature=0)
    assert one.prompt == 0 and two.prompt == 1 and one.text == model.decode(one.ids)
    assert (model.generate(model.encode("Once upon"), length=8, temperature=0)[0].ids == one.ids).all()
    assert (model.logprobs("Once upon a time") <= 0).all()


def ids_are_integers(model):
    """Values that are not integers are rejected, never rounded to an id."""
    for wrong in ([1.5, 2], [1.0], numpy.array([1.0, 2.0]), [True, False], [1, True], numpy.array([True]), ["1", "2"],
                  [None], [1, [2]], numpy.array([1, "a"], object)):  # fmt: skip
        for call in (model.logits, model.logprobs, model.generate, model.dump):
            try:
                call(wrong)
            except (TypeError, ValueError) as error:
                assert "ids" in str(error) or "inhomogeneous" in str(error) or "no tokenizer" in str(error), error
            else:
                raise AssertionError(wrong)
    for wrong in (numpy.zeros((2, 2), int), [2**40], numpy.array([2**32 + 1])):
        try:
            model.logits(wrong)
        except ValueError as error:
            assert "token ids" in str(error), error
        else:
            raise AssertionError(wrong)
    right = model.logits([1, 2, 3])
    for same in ((1, 2, 3), range(1, 4), numpy.array([1, 2, 3], numpy.uint16), numpy.array([[1, 2, 3]])):
        assert (model.logits(same) == right).all(), same


def errors_are_told():
    def says(part, call):
        try:
            call()
        except lckv.Error as error:
            assert part in str(error) and error.status < 0, error
        else:
            raise AssertionError(part)

    says("nowhere", lambda: lckv.Model("./nowhere/at/all"))
    folder, expected, _ = golden("llama")
    model = lckv.Model(folder, device="cpu", threads=1)
    says("ids 0 to", lambda: model.logits([1, 10**6]))
    says("no tensor matches", lambda: model.dump(expected["ids"], "layer.0"))
    try:
        model.generate([1, 2], lenght=3)
        raise AssertionError("lenght")
    except TypeError as error:
        assert "lenght" in str(error)
    ids_are_integers(model)
    try:
        model.encode("text")
        raise AssertionError("tokenizer")
    except ValueError as error:
        assert "no tokenizer" in str(error)


def random_models():
    config = os.path.join(SOURCE, "data", "demo-config.json")
    one, same, other = (lckv.Model(config, device="cpu", random=seed).logits([5, 6, 7]) for seed in (1, 1, 2))
    assert (one == same).all() and not (one == other).any()
    assert one.shape == (3, lckv.Model(config, device="count", random=1).config["vocab_size"])


# ---------------------------------------------------------------- streams, chat templates, lifetime


TINY = os.path.join(SOURCE, "tests", "goldens", "lckv-tiny")
TOKENIZER = os.path.join(SOURCE, "data", "tokenizer")
CONFIG = os.path.join(SOURCE, "data", "demo-config.json")


def rejects(kind, part, call):
    try:
        call()
    except kind as error:
        assert part in str(error), error
    else:
        raise AssertionError(part)


def sampling_parameters_have_fields():
    """Each row of the list is a field of both structs, and documented."""
    with open(os.path.join(SOURCE, "src", "generate", "sampling_parameters.h")) as file:
        shared, penalties = file.read().split("#define PENALTY_PARAMETERS(X)")
    shared = re.findall(r"^    X\((\w+), [A-Z]+, ", shared, re.M)
    fields = [{name for name, _ in s._fields_} for s in (lckv._GenerateOptions, lckv._Request)]
    assert len(shared) >= 5 and set(shared) <= fields[0] & fields[1], shared
    assert set(re.findall(r"^    X\((\w+), [A-Z]+, ", penalties, re.M)) <= fields[1]
    with open(os.path.join(SOURCE, "docs", "chat.md")) as file:
        assert all(f"`{name}`" in text for text in [file.read()] for name in shared)


def streams_are_what_generate_makes():
    with lckv.Model(CONFIG, device="cpu", threads=1, random=3, tokenizer=TOKENIZER) as model:
        for options in ({"temperature": 0}, {"seed": 5, "top_k": 9}, {"window_length": 16, "num_sink_tokens": 2}):
            made = model.generate("It is a truth", length=12, **options)[0]
            tokens = list(model.stream("It is a truth", length=12, **options))
            assert [t.id for t in tokens] == made.ids.tolist(), options
            assert "".join(t.text for t in tokens) == made.text, options
            assert [t.finish for t in tokens] == [None] * (len(tokens) - 1) + [made.finish]
            assert all(t.logprob <= 0 for t in tokens)
        stream = model.stream("It is", length=12, ignore_eos=True)
        first = next(stream)
        assert model.decode(model.encode("It is")) == "It is" and len(model.logits("It is")) > 0  # between two tokens
        stream.close()
        again = model.stream("It is", length=12, ignore_eos=True)
        assert next(again) == first
        rejects(TypeError, "found 5", lambda: model.generate(5))
        rejects(TypeError, "found None", lambda: model.encode(None))
        rejects(ValueError, "at least one prompt", lambda: model.generate([]))
        rejects(ValueError, "auto, plan, sequential, found 'exact'", lambda: model.logits("It", encoding="exact"))
        rejects(ValueError, "num_return_sequences", lambda: model.stream("It", num_return_sequences=2))
        rejects(ValueError, "positions", lambda: model.stream(list(range(1, 1100))))
        rejects(ValueError, "length", lambda: model.stream("It", length=0))
        rejects(lckv.Error, "temperature", lambda: next(model.stream("It", temperature=-1)))
    rejects(ValueError, "closed", lambda: next(again))


def streams_need_no_tokenizer():
    with lckv.Model(TINY, device="cpu", threads=1) as model:
        made = model.generate([1, 2, 3], length=4, temperature=0, ignore_eos=True)[0].ids.tolist()
        tokens = list(model.stream([1, 2, 3], length=4, temperature=0, ignore_eos=True))
        assert [t.id for t in tokens] == made and tokens[0].text is None
        rounded = [t.id for t in model.stream([1, 2, 3], length=4, temperature=0, ignore_eos=True, kv_dtype="int8")]
        assert rounded == model.generate([1, 2, 3], length=4, temperature=0, ignore_eos=True, kv_dtype="int8")[0].ids.tolist()


def chat_templates_are_applied():
    with tempfile.TemporaryDirectory() as folder:
        template = os.path.join(folder, "template.jinja")
        with open(template, "w") as file:
            file.write("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
                       "{% if add_generation_prompt %}assistant:{% endif %}{{ mood }}")  # fmt: skip
        messages = [{"role": "user", "content": "Who is Mr. Darcy?"}]
        with lckv.Model(CONFIG, device="cpu", threads=1, random=3, tokenizer=TOKENIZER) as model:
            text = model.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False,
                                             mood=" well")  # fmt: skip
            assert text == "user: Who is Mr. Darcy?\nassistant: well", text
            ids = model.apply_chat_template(messages, chat_template=template)
            assert (ids == model.encode("user: Who is Mr. Darcy?\n", add_special_tokens=False)).all()
            rejects(ValueError, "chat_template=FILE", lambda: model.apply_chat_template(messages))
            rejects(lckv.Error, "messages", lambda: model.apply_chat_template("hello", chat_template=template))


def models_can_be_closed():
    with lckv.Model(TINY, device="cpu", threads=1) as model:
        assert "lckv-tiny" in repr(model) and "layers" in repr(model) and "lckv.Sequence" in repr(model.generate([1])[0])
    assert repr(model).endswith("closed>")
    model.close()
    for call in (lambda: model.logits([1]), lambda: model.generate([1]), lambda: model.stream([1]), lambda: model.config,
                 lambda: model.encode("x"), lambda: model.logprobs([1, 2])):  # fmt: skip
        rejects(ValueError, "closed", call)


def the_library_is_found_or_explained():
    assert lckv.__version__ == lckv.library().lckv_version().decode()
    rejects(OSError, "use_library(PATH)", lambda: lckv.use_library("./nowhere/liblckv.so"))
    rejects(OSError, "same version", lambda: lckv.use_library(ctypes.util.find_library("m") or "libm.so.6"))
    rejects(AttributeError, "nothing", lambda: lckv.nothing)
    assert lckv.library().lckv_version()  # a failed attempt changes nothing


structs_are_the_headers()
sampling_parameters_have_fields()
streams_are_what_generate_makes()
streams_need_no_tokenizer()
chat_templates_are_applied()
models_can_be_closed()
the_library_is_found_or_explained()
if not os.path.exists(os.path.join(SHARED, "goldens", "llama", "expected.safetensors")):
    print("skipped: no golden models,", SHARED, "is absent")
    sys.exit(77)
for case in ("llama", "qwen2", "qwen3", "lckv-w2", "lckv-bias", "mixattention", "tangled"):
    logits_are_the_oracles(case)
    what_was_dumped_belongs_together(case, encoding="plan")
    what_was_dumped_belongs_together(case, encoding="sequential")
runs_are_told_apart()
text_goes_both_ways()
errors_are_told()
random_models()
print("all of it")
