"""lckv from Python: load a model, encode text, get logits, generate, and look inside, as numpy arrays.

    import lckv
    model = lckv.Model("demo-model")
    ids = model.encode("It is a truth universally acknowledged")
    model.logits(ids)                           # float32 [tokens, vocab_size]
    model.dump(ids, "layers.*.{hidden,k}")      # {"layers.0.hidden": float32 [tokens, hidden_size], ...}
    print(model.generate("Mr. Darcy", length=40)[0].text)

One file over the public header (include/lckv.h) by ctypes; what a function or an option means stands there. It takes
liblckv.so from ../build or from where the system finds libraries; use_library(path) names another one. Leaves out:
training, serving, tasks, which the program `lckv` does.
"""

import ctypes
import ctypes.util
import json
import os
import tempfile
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p

import numpy

ENCODINGS = {"auto": 0, "plan": 1, "sequential": 2}
FINISHES = (None, "stop", "length", "error")


class Error(Exception):
    """What lckv_last_error() says; `status` is the function's."""

    def __init__(self, status):
        super().__init__(library().lckv_last_error().decode())
        self.status = status


# ---------------------------------------------------------------- the header's structs


class _ModelOptions(ctypes.Structure):  # lckv_model_options
    _fields_ = [("config_overrides", c_char_p), ("torch_dtype", c_char_p), ("adapter", c_char_p)]


class _ConfigInfo(ctypes.Structure):  # lckv_config_info
    _fields_ = (
        [("model_type", c_char_p)]
        + [(name, c_int64) for name in ("hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings")]
        + [(name, c_int) for name in ("layers", "heads", "kv_heads", "head_dim", "kv_slots", "loops")]
        + [("forward_passes", c_int), ("backward_passes", c_int), ("sliding_window", c_int64)]
        + [("tie_word_embeddings", c_bool), ("use_sequential", c_bool), ("dtype", c_int), ("parameters", c_int64)]
        + [("windowed_slots", c_int)]
    )


class _Prompt(ctypes.Structure):  # lckv_prompt
    _fields_ = [("ids", POINTER(c_int32)), ("count", c_int64)]


class _GenerateOptions(ctypes.Structure):  # lckv_generate_options
    _fields_ = [
        ("length", c_int64), ("temperature", c_double), ("top_k", c_int64), ("top_p", c_double), ("min_p", c_double),
        ("repetition_penalty", c_double), ("seed", c_uint64), ("num_return_sequences", c_int), ("ignore_eos", c_bool),
        ("stop", POINTER(c_char_p)), ("stop_count", c_int), ("encoding", c_int), ("encoding_runs", c_int),
        ("encoding_tolerance", c_double), ("window_length", c_int64), ("num_sink_tokens", c_int64), ("bf16", c_bool),
        ("callback", c_void_p), ("user", c_void_p),
    ]  # fmt: skip


class _Sequence(ctypes.Structure):  # lckv_sequence
    _fields_ = [
        ("prompt", c_int), ("sample", c_int), ("ids", POINTER(c_int32)), ("count", c_int64), ("text", c_void_p),
        ("text_bytes", c_size_t), ("finish", c_int),
    ]  # fmt: skip


class _Generation(ctypes.Structure):  # lckv_generation
    _fields_ = [
        ("sequences", POINTER(_Sequence)), ("count", c_int), ("prompt_tokens", c_int64), ("decode_tokens", c_int64),
        ("prompt_seconds", c_double), ("decode_seconds", c_double), ("decode_bytes", c_double),
    ]  # fmt: skip


class _ScoreOptions(ctypes.Structure):  # lckv_score_options
    _fields_ = [
        ("encoding", c_int), ("window_length", c_int64), ("num_sink_tokens", c_int64), ("bf16", c_bool),
        ("logits_file", c_char_p), ("logits", c_void_p), ("dump", c_char_p), ("dump_file", c_char_p), ("dump_runs", c_bool),
        ("top_logprobs", c_int64), ("top_ids", POINTER(c_int32)), ("top_values", c_void_p), ("go_on", c_void_p),
        ("user", c_void_p),
    ]  # fmt: skip


# ---------------------------------------------------------------- the library

_library = None


def _declare(lib):
    def function(name, result, *arguments):
        f = getattr(lib, name)
        f.restype = result
        f.argtypes = arguments

    handle = POINTER(c_void_p)
    function("lckv_last_error", c_char_p)
    function("lckv_version", c_char_p)
    function("lckv_free", None, c_void_p)
    function("lckv_find_folder", c_int, c_char_p, handle)
    function("lckv_device_open", c_int, c_char_p, c_int, handle)
    function("lckv_device_close", None, c_void_p)
    function("lckv_config_load", c_int, c_char_p, c_char_p, handle)
    function("lckv_config_free", None, c_void_p)
    function("lckv_config_describe", _ConfigInfo, c_void_p)
    function("lckv_model_defaults", _ModelOptions)
    function("lckv_model_open", c_int, c_void_p, c_char_p, POINTER(_ModelOptions), handle)
    function("lckv_model_create", c_int, c_void_p, c_void_p, c_char_p, c_uint64, handle)
    function("lckv_model_config", c_void_p, c_void_p)
    function("lckv_model_free", None, c_void_p)
    function("lckv_tokenizer_open", c_int, c_char_p, handle)
    function("lckv_tokenizer_free", None, c_void_p)
    function("lckv_tokenizer_encode", c_int, c_void_p, c_char_p, c_size_t, c_bool, POINTER(POINTER(c_int32)),
             POINTER(c_size_t))  # fmt: skip
    function("lckv_tokenizer_decode", c_int, c_void_p, c_void_p, c_size_t, c_bool, handle, POINTER(c_size_t))
    function("lckv_generate_defaults", _GenerateOptions)
    function("lckv_generate", c_int, c_void_p, c_void_p, POINTER(_Prompt), c_int, POINTER(_GenerateOptions),
             POINTER(POINTER(_Generation)))  # fmt: skip
    function("lckv_generation_free", None, POINTER(_Generation))
    function("lckv_score_defaults", _ScoreOptions)
    function("lckv_score", c_int, c_void_p, c_void_p, c_int64, POINTER(_ScoreOptions), c_void_p)
    return lib


def use_library(path):
    """Takes this liblckv.so, from before the first model on."""
    global _library
    _library = _declare(ctypes.CDLL(path))


def library():
    """The library itself, for what has no method here."""
    if _library is None:
        built = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "liblckv.so")
        use_library(built if os.path.exists(built) else ctypes.util.find_library("lckv") or "liblckv.so.0")
    return _library


def _check(status):
    if status < 0:
        raise Error(status)


def _bytes(text):
    return None if text is None else os.fsencode(text)


def _taken(pointer, count, kind):
    """The array that the library handed out, as one of numpy's own."""
    array = numpy.ctypeslib.as_array(pointer, (count,)).astype(kind) if count else numpy.zeros(0, kind)
    library().lckv_free(ctypes.cast(pointer, c_void_p))
    return array


def _integers(given):
    """One sequence of token ids as int32 [tokens]. Nothing is rounded: 1.5, True and "1" are no ids."""
    ids = numpy.asarray(given)
    if ids.size == 0:
        return numpy.zeros(0, numpy.int32)
    if ids.dtype.kind not in "iu" or isinstance(given, (list, tuple)) and any(isinstance(i, bool) for i in given):
        wrong = next((i for i in ids.reshape(-1).tolist() if not isinstance(i, int) or isinstance(i, bool)), given[0])
        raise TypeError(f"token ids should be integers, found {wrong!r} ({ids.dtype})")
    if ids.ndim > 2 or ids.ndim == 2 and len(ids) != 1:
        raise ValueError(f"expected one sequence of token ids, found an array of shape {ids.shape}")
    if ids.min() < -(2**31) or ids.max() >= 2**31:
        raise ValueError(f"token ids should fit 32 bits, found {ids.min()} to {ids.max()}")
    return numpy.ascontiguousarray(ids, dtype=numpy.int32).reshape(-1)


def _set(options, values):
    for name, value in values.items():
        if name == "encoding":
            value = ENCODINGS[value]
        if not hasattr(options, name) or name in ("callback", "user", "stop", "stop_count"):
            raise TypeError(f"there is no option {name!r}")
        setattr(options, name, value)


def read_safetensors(path):
    """{name: array} of a file of float32 or int64 tensors, such as lckv writes."""
    kinds = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(data[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


# ---------------------------------------------------------------- models


class Sequence:
    """What was generated: `ids` alone, their `text` (None without a tokenizer), and `finish`: "stop" or "length"."""

    def __init__(self, s):
        self.prompt, self.sample, self.finish = s.prompt, s.sample, FINISHES[s.finish]
        self.ids = numpy.ctypeslib.as_array(s.ids, (s.count,)).copy() if s.count else numpy.zeros(0, numpy.int32)
        self.text = ctypes.string_at(s.text, s.text_bytes).decode() if s.text else None


class Model:
    """A checkpoint on a device, with its tokenizer where it has one. `random` takes a config, and weights of this seed.

    Options of logits(), logprobs() and dump(): encoding ("auto", "plan", "sequential"), window_length, num_sink_tokens,
    bf16. Ids are anything that numpy makes an array of integers of.
    """

    def __init__(self, name, device="auto", threads=0, tokenizer=None, config_overrides=None, torch_dtype="auto",
                 adapter=None, random=None):  # fmt: skip
        lib = library()
        self._device, self._model, self._tokenizer = c_void_p(), c_void_p(), c_void_p()
        _check(lib.lckv_device_open(_bytes(device), threads, byref(self._device)))
        if random is None:
            options = lib.lckv_model_defaults()
            options.config_overrides, options.torch_dtype = _bytes(config_overrides), _bytes(torch_dtype)
            options.adapter = _bytes(adapter)
            _check(lib.lckv_model_open(self._device, _bytes(name), byref(options), byref(self._model)))
        else:
            config = c_void_p()
            _check(lib.lckv_config_load(_bytes(name), _bytes(config_overrides), byref(config)))
            status = lib.lckv_model_create(self._device, config, _bytes(torch_dtype), random, byref(self._model))
            lib.lckv_config_free(config)
            _check(status)
        if tokenizer or random is None:
            self._open_tokenizer(name, tokenizer)

    def _open_tokenizer(self, name, tokenizer):
        lib, folder = library(), c_void_p()
        _check(lib.lckv_find_folder(_bytes(tokenizer or name), byref(folder)))
        path = ctypes.string_at(folder)
        lib.lckv_free(folder)
        if tokenizer or os.path.exists(os.path.join(os.fsdecode(path), "tokenizer.json")):
            _check(lib.lckv_tokenizer_open(path, byref(self._tokenizer)))

    def close(self):
        """Gives its memory back; also done when nobody refers to it any more."""
        lib = library()
        lib.lckv_tokenizer_free(self._tokenizer)
        lib.lckv_model_free(self._model)
        lib.lckv_device_close(self._device)
        self._device, self._model, self._tokenizer = c_void_p(), c_void_p(), c_void_p()

    def __del__(self):
        if _library is not None and hasattr(self, "_tokenizer"):
            self.close()

    @property
    def config(self):
        """The fields of lckv_config_info by name."""
        info = library().lckv_config_describe(library().lckv_model_config(self._model))
        fields = {name: getattr(info, name) for name, _ in _ConfigInfo._fields_}
        fields["model_type"] = fields["model_type"].decode()
        return fields

    # ------------------------------------------------------------ text and ids

    def _need_tokenizer(self):
        if not self._tokenizer:
            raise ValueError("this model has no tokenizer: give ids, or tokenizer=FOLDER when it is made")

    def encode(self, text, add_special_tokens=True):
        self._need_tokenizer()
        ids, count, data = POINTER(c_int32)(), c_size_t(), text.encode()
        _check(library().lckv_tokenizer_encode(self._tokenizer, data, len(data), add_special_tokens, byref(ids),
                                               byref(count)))  # fmt: skip
        return _taken(ids, count.value, numpy.int32)

    def decode(self, ids, skip_special_tokens=True):
        self._need_tokenizer()
        ids, text, size = self._ids(ids), c_void_p(), c_size_t()
        _check(library().lckv_tokenizer_decode(self._tokenizer, ids.ctypes.data, len(ids), skip_special_tokens,
                                               byref(text), byref(size)))  # fmt: skip
        decoded = ctypes.string_at(text, size.value).decode()
        library().lckv_free(text)
        return decoded

    def _ids(self, given):
        """Of text too, where there is a tokenizer."""
        if isinstance(given, str):
            return self.encode(given)
        return _integers(given)

    # ------------------------------------------------------------ scoring

    def _score(self, ids, options, **results):
        values = library().lckv_score_defaults()
        _set(values, {**options, **results})
        ids = self._ids(ids)
        logprobs = numpy.zeros(max(len(ids) - 1, 1), numpy.float32)
        _check(library().lckv_score(self._model, ids.ctypes.data, len(ids), byref(values), logprobs.ctypes.data))
        return logprobs[: len(ids) - 1]

    def logprobs(self, ids, **options):
        """Of ids[1:], each given all before it: float32 [tokens - 1], in nats."""
        return self._score(ids, options)

    def logits(self, ids, **options):
        """float32 [tokens, vocab_size]: what may follow each token."""
        ids = self._ids(ids)
        logits = numpy.empty((len(ids), self.config["vocab_size"]), numpy.float32)
        self._score(ids, options, logits=logits.ctypes.data)
        return logits

    def dump(self, ids, names="layers.*.{hidden,attn,k,v}", runs=False, **options):
        """{name: float32 [tokens, ..]} of what layers compute; with `runs`, in each run of a loop."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "inside.safetensors")
            self._score(ids, options, dump=names.encode(), dump_file=_bytes(path), dump_runs=runs)
            return read_safetensors(path)

    # ------------------------------------------------------------ generating

    def generate(self, prompts, stop=(), **options):
        """A list of Sequence, by prompt and then by sample. `prompts`: text, ids, or a list of either; options are
        those of lckv_generate_options (length, temperature, top_k, top_p, seed, num_return_sequences, ...)."""
        values, made = library().lckv_generate_defaults(), POINTER(_Generation)()
        _set(values, options)
        values.stop = (c_char_p * len(stop))(*[s.encode() for s in stop]) if stop else None
        values.stop_count = len(stop)
        if isinstance(prompts, str) or numpy.ndim(prompts[0]) == 0 and not isinstance(prompts[0], str):
            prompts = [prompts]
        arrays = [self._ids(p) for p in prompts]
        given = (_Prompt * len(arrays))(*[_Prompt(a.ctypes.data_as(POINTER(c_int32)), len(a)) for a in arrays])
        _check(library().lckv_generate(self._model, self._tokenizer, given, len(arrays), byref(values), byref(made)))
        sequences = [Sequence(made.contents.sequences[i]) for i in range(made.contents.count)]
        library().lckv_generation_free(made)
        return sequences
