"""lckv from Python: load a model, encode text, compute logits, generate, and read activations, as numpy arrays.

    import lckv
    with lckv.Model("demo-model") as model:
        ids = model.encode("It is a truth universally acknowledged")
        model.logits(ids)                           # float32 [tokens, vocab_size]
        model.dump(ids, "layers.*.{hidden,k}")      # {"layers.0.hidden": float32 [tokens, hidden_size], ...}
        print(model.generate("Mr. Darcy", length=40)[0].text)
        for token in model.stream("Mr. Darcy", length=40):
            print(token.text, end="", flush=True)

This file wraps the public header (include/lckv.h) with ctypes; the headers in include/lckv document functions and
options. It loads liblckv.so from ../build, else from the system's library path; use_library(path) selects another file.
Training, serving and evaluation are not wrapped: use the program `lckv`. `lckv.__version__` is the version of the
library.
"""

import collections
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
    """A failed call: the message of lckv_last_error(), and the function's `status`."""

    def __init__(self, status):
        super().__init__(library().lckv_last_error().decode())
        self.status = status


# ---------------------------------------------------------------- structs of the header


class _ModelOptions(ctypes.Structure):  # lckv_model_options
    _fields_ = [("struct_size", c_size_t), ("config_overrides", c_char_p), ("torch_dtype", c_char_p), ("adapter", c_char_p),
                ("no_loop_start", c_bool), ("processes", c_void_p), ("weight_dtype", c_char_p)]


class _ConfigInfo(ctypes.Structure):  # lckv_config_info
    _fields_ = (
        [("model_type", c_char_p)]
        + [(name, c_int64) for name in ("hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings")]
        + [(name, c_int) for name in ("layers", "heads", "kv_heads", "head_dim", "kv_slots", "loops")]
        + [("forward_passes", c_int), ("backward_passes", c_int), ("sliding_window", c_int64)]
        + [("tie_word_embeddings", c_bool), ("use_sequential", c_bool), ("dtype", c_int), ("parameters", c_int64)]
        + [("windowed_slots", c_int), ("weight_dtype", c_char_p)]
    )


class _Prompt(ctypes.Structure):  # lckv_prompt
    _fields_ = [("ids", POINTER(c_int32)), ("count", c_int64)]


class _GenerateOptions(ctypes.Structure):  # lckv_generate_options
    _fields_ = [
        ("struct_size", c_size_t), ("length", c_int64), ("temperature", c_double), ("top_k", c_int64),
        ("top_p", c_double), ("min_p", c_double), ("repetition_penalty", c_double), ("seed", c_uint64),
        ("num_return_sequences", c_int),
        ("ignore_eos", c_bool),
        ("stop", POINTER(c_char_p)), ("stop_count", c_int), ("encoding", c_int), ("encoding_iterations", c_int),
        ("encoding_tolerance", c_double), ("window_length", c_int64), ("num_sink_tokens", c_int64), ("bf16", c_bool),
        ("callback", c_void_p), ("user", c_void_p), ("cost_table", c_char_p), ("kv_dtype", c_char_p),
    ]  # fmt: skip


class _Sequence(ctypes.Structure):  # lckv_sequence
    _fields_ = [
        ("prompt", c_int), ("sample", c_int), ("ids", POINTER(c_int32)), ("count", c_int64), ("text", c_void_p),
        ("text_bytes", c_size_t), ("finish", c_int), ("encoding", c_int),
    ]  # fmt: skip


class _Generation(ctypes.Structure):  # lckv_generation
    _fields_ = [
        ("sequences", POINTER(_Sequence)), ("count", c_int), ("prompt_tokens", c_int64), ("decode_tokens", c_int64),
        ("prompt_seconds", c_double), ("decode_seconds", c_double), ("decode_bytes", c_double),
    ]  # fmt: skip


class _ScoreOptions(ctypes.Structure):  # lckv_score_options
    _fields_ = [
        ("struct_size", c_size_t), ("encoding", c_int), ("window_length", c_int64), ("num_sink_tokens", c_int64),
        ("bf16", c_bool),
        ("logits_file", c_char_p), ("logits", c_void_p), ("dump", c_char_p), ("dump_file", c_char_p),
        ("dump_iterations", c_bool),
        ("top_logprobs", c_int64), ("top_ids", POINTER(c_int32)), ("top_values", c_void_p), ("go_on", c_void_p),
        ("user", c_void_p), ("encoding_iterations", c_int), ("encoding_tolerance", c_double), ("kv_dtype", c_char_p),
    ]  # fmt: skip


class _EngineOptions(ctypes.Structure):  # lckv_engine_options
    _fields_ = [
        ("struct_size", c_size_t), ("max_num_seqs", c_int), ("max_model_len", c_int64), ("kv_cache_memory", c_int64),
        ("max_num_batched_tokens", c_int64), ("prefill_chunk_size", c_int64), ("encoding_iterations", c_int),
        ("encoding_tolerance", c_double), ("batch_invariant", c_bool), ("max_queue", c_int), ("window_length", c_int64),
        ("num_sink_tokens", c_int64), ("bf16", c_bool), ("callback", c_void_p), ("user", c_void_p),
        ("cost_table", c_char_p), ("max_time_to_first_token", c_double), ("max_time_between_tokens", c_double),
        ("kv_dtype", c_char_p),
    ]  # fmt: skip


class _Request(ctypes.Structure):  # lckv_request
    _fields_ = [
        ("struct_size", c_size_t), ("prompt", _Prompt), ("n", c_int), ("max_new_tokens", c_int64),
        ("temperature", c_double), ("top_k", c_int64), ("top_p", c_double), ("min_p", c_double),
        ("repetition_penalty", c_double), ("presence_penalty", c_double), ("frequency_penalty", c_double),
        ("bias_ids", POINTER(c_int32)), ("bias_values", c_void_p), ("bias_count", c_int), ("top_logprobs", c_int),
        ("prompt_logprobs", c_bool), ("seed", c_uint64), ("stream", c_uint64), ("ignore_eos", c_bool),
        ("stop", POINTER(c_char_p)), ("stop_count", c_int), ("encoding", c_int), ("mark", c_void_p),
    ]  # fmt: skip


class _Event(ctypes.Structure):  # lckv_event
    _fields_ = [
        ("request", c_uint64), ("mark", c_void_p), ("sample", c_int), ("of_prompt", c_bool), ("token", c_int32),
        ("logprob", c_double), ("top", c_void_p), ("top_count", c_int), ("text", c_void_p), ("text_bytes", c_size_t),
        ("finish", c_int), ("new_tokens", c_int64), ("prompt_tokens", c_int64), ("cached_tokens", c_int64),
        ("encoding", c_int),
    ]  # fmt: skip


class _Chat(ctypes.Structure):  # lckv_chat
    _fields_ = [
        ("struct_size", c_size_t), ("messages", c_char_p), ("tools", c_char_p), ("documents", c_char_p),
        ("variables", c_char_p), ("add_generation_prompt", c_bool), ("continue_final_message", c_bool),
        ("return_assistant_tokens", c_bool), ("now", c_int64),
    ]  # fmt: skip


class _ChatText(ctypes.Structure):  # lckv_chat_text
    _fields_ = [("text", c_void_p), ("bytes", c_size_t), ("assistant", c_void_p), ("assistant_count", c_int)]


_EventCallback = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_Event))

# ---------------------------------------------------------------- the library

NOT_FOUND = (
    "cannot load liblckv ({}). Build it (cmake -B build && cmake --build build) or install it (cmake --install build), or "
    "call lckv.use_library(PATH) with the path of liblckv.so before the first model."
)

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
    for struct in (_ModelOptions, _GenerateOptions, _ScoreOptions, _EngineOptions, _Request, _Chat):
        function(_initializer(struct), None, POINTER(struct), c_size_t)
    function("lckv_model_open", c_int, c_void_p, c_char_p, POINTER(_ModelOptions), handle)
    function("lckv_model_create", c_int, c_void_p, c_void_p, c_char_p, c_uint64, handle)
    function("lckv_model_config", c_void_p, c_void_p)
    function("lckv_model_free", None, c_void_p)
    function("lckv_tokenizer_open", c_int, c_char_p, handle)
    function("lckv_tokenizer_free", None, c_void_p)
    function("lckv_tokenizer_encode", c_int, c_void_p, c_char_p, c_size_t, c_bool, POINTER(POINTER(c_int32)),
             POINTER(c_size_t))  # fmt: skip
    function("lckv_tokenizer_decode", c_int, c_void_p, c_void_p, c_size_t, c_bool, handle, POINTER(c_size_t))
    function("lckv_generate", c_int, c_void_p, c_void_p, POINTER(_Prompt), c_int, POINTER(_GenerateOptions),
             POINTER(POINTER(_Generation)))  # fmt: skip
    function("lckv_generation_free", None, POINTER(_Generation))
    function("lckv_score", c_int, c_void_p, c_void_p, c_int64, POINTER(_ScoreOptions), c_void_p)
    function("lckv_model_parameters", c_int64, c_void_p)
    function("lckv_engine_create", c_int, c_void_p, c_void_p, POINTER(_EngineOptions), handle)
    function("lckv_engine_free", None, c_void_p)
    function("lckv_engine_submit", c_int, c_void_p, POINTER(_Request), POINTER(c_uint64))
    function("lckv_engine_idle", c_bool, c_void_p)
    function("lckv_engine_step", c_int, c_void_p)
    function("lckv_chat_template_open", c_int, c_char_p, c_char_p, handle)
    function("lckv_chat_template_free", None, c_void_p)
    function("lckv_chat_template_render", c_int, c_void_p, POINTER(_Chat), POINTER(_ChatText))
    function("lckv_chat_text_free", None, POINTER(_ChatText))
    return lib


def _initializer(struct):
    """lckv_model_options_init for _ModelOptions."""
    return "lckv" + "".join("_" + c.lower() if c.isupper() else c for c in struct.__name__[1:]) + "_init"


def _defaults(struct):
    """An options struct with the library's defaults."""
    options = struct()
    getattr(library(), _initializer(struct))(byref(options), ctypes.sizeof(options))
    return options


def use_library(path):
    """Loads this liblckv.so. Call it before the first model."""
    global _library
    try:
        _library = _declare(ctypes.CDLL(path))
    except OSError as error:
        raise OSError(NOT_FOUND.format(error)) from error
    except AttributeError as error:
        raise OSError(f"{path} is not the liblckv of this lckv.py ({error}): use files of the same version") from error


def __getattr__(name):
    if name == "__version__":
        return library().lckv_version().decode()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def library():
    """The library itself, for functions that have no method here."""
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
    """Copies an array of the library to numpy and frees it."""
    array = numpy.ctypeslib.as_array(pointer, (count,)).astype(kind) if count else numpy.zeros(0, kind)
    library().lckv_free(ctypes.cast(pointer, c_void_p))
    return array


def _integers(given):
    """One sequence of token ids as int32 [tokens]. Raises TypeError for anything but integers, such as 1.5, True and "1"."""
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


def _prompt(ids):
    return _Prompt(ids.ctypes.data_as(POINTER(c_int32)), len(ids))


def _copy(source, target):
    """Copies the fields that two options structs share, except their size."""
    for name in {name for name, _ in source._fields_[1:]} & {name for name, _ in target._fields_[1:]}:
        setattr(target, name, getattr(source, name))


def _set(options, values):
    for name, value in values.items():
        if name == "encoding":
            if value not in ENCODINGS:
                raise ValueError(f"encoding should be one of {', '.join(ENCODINGS)}, found {value!r}")
            value = ENCODINGS[value]
        if name in ("cost_table", "kv_dtype"):
            value = value.encode()
        if not hasattr(options, name) or name in ("struct_size", "callback", "user", "stop", "stop_count"):
            raise TypeError(f"unknown option {name!r}")
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


Token = collections.namedtuple("Token", ["id", "text", "logprob", "finish"])
Token.__doc__ = """A streamed token: `id`, the `text` that it completes ("" if none, None without a tokenizer), the natural
`logprob` under the plain logits, and `finish`: None, or "stop" or "length" with the last token."""


class Sequence:
    """A generated sequence: the new `ids`, their `text` (None without a tokenizer), `finish`: "stop" or "length", and how
    the prompt was processed, `encoding`: "plan" or "sequential"."""

    def __repr__(self):
        return f"<lckv.Sequence of {len(self.ids)} tokens, finish {self.finish!r}: {self.text!r}>"

    def __init__(self, s):
        self.prompt, self.sample, self.finish = s.prompt, s.sample, FINISHES[s.finish]
        self.encoding = "sequential" if s.encoding == ENCODINGS["sequential"] else "plan"
        self.ids = numpy.ctypeslib.as_array(s.ids, (s.count,)).copy() if s.count else numpy.zeros(0, numpy.int32)
        self.text = ctypes.string_at(s.text, s.text_bytes).decode() if s.text else None


class Model:
    """A checkpoint on a device, with its tokenizer if it has one. With `random`, `name` is a config, and the weights are
    random by this seed. Use it in a `with` statement, or call close(), to free its memory at a certain point.

    Options of logits(), logprobs() and dump(): encoding ("auto", "plan", "sequential"), window_length, num_sink_tokens,
    bf16, kv_dtype. Ids are anything that numpy converts to an array of integers.
    """

    def __init__(self, name, device="auto", threads=0, tokenizer=None, config_overrides=None, torch_dtype="auto",
                 adapter=None, random=None, no_loop_start=False, weight_dtype="auto"):  # fmt: skip
        lib = library()
        self.name, self._device_name, self._folder, self._engines = name, device, None, []
        self._device, self._model, self._tokenizer = c_void_p(), c_void_p(), c_void_p()
        _check(lib.lckv_device_open(_bytes(device), threads, byref(self._device)))
        if random is None:
            options = _defaults(_ModelOptions)
            options.config_overrides, options.torch_dtype = _bytes(config_overrides), _bytes(torch_dtype)
            options.adapter, options.no_loop_start = _bytes(adapter), no_loop_start
            options.weight_dtype = _bytes(weight_dtype)
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
        self._folder = path = ctypes.string_at(folder)
        lib.lckv_free(folder)
        gguf = os.path.isfile(path)  # some have no tokenizer, which is LCKV_ERROR_FILE
        if tokenizer or gguf or os.path.exists(os.path.join(os.fsdecode(path), "tokenizer.json")):
            status = lib.lckv_tokenizer_open(path, byref(self._tokenizer))
            if tokenizer or not gguf or status != -2:
                _check(status)

    def close(self):
        """Frees the memory. Streams that are not finished end. The garbage collector also does this."""
        lib = library()
        for engine in self._engines:
            lib.lckv_engine_free(engine)
            engine.value = None
        lib.lckv_tokenizer_free(self._tokenizer)
        lib.lckv_model_free(self._model)
        lib.lckv_device_close(self._device)
        self._device, self._model, self._tokenizer = c_void_p(), c_void_p(), c_void_p()

    def __del__(self):
        if _library is not None and hasattr(self, "_tokenizer"):
            self.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        if not self._model:
            return f"<lckv.Model {self.name!r}, closed>"
        c = self.config
        return (f"<lckv.Model {self.name!r} on {self._device_name!r}: {c['model_type']}, {c['layers']} layers, "
                f"{c['kv_slots']} KV slots, {library().lckv_model_parameters(self._model)} parameters>")  # fmt: skip

    def _need_model(self):
        if not self._model:
            raise ValueError(f"the model {self.name!r} is closed")
        return self._model

    @property
    def config(self):
        """The fields of lckv_config_info by name."""
        info = library().lckv_config_describe(library().lckv_model_config(self._need_model()))
        fields = {name: getattr(info, name) for name, _ in _ConfigInfo._fields_}
        fields["model_type"], fields["weight_dtype"] = fields["model_type"].decode(), fields["weight_dtype"].decode()
        return fields

    # ------------------------------------------------------------ text and ids

    def _need_tokenizer(self):
        self._need_model()
        if not self._tokenizer:
            raise ValueError("this model has no tokenizer: pass ids, or create it with tokenizer=FOLDER")

    def encode(self, text, add_special_tokens=True):
        self._need_tokenizer()
        if not isinstance(text, str):
            raise TypeError(f"expected a text, found {text!r}")
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

    def apply_chat_template(self, messages, tools=None, documents=None, add_generation_prompt=False,
                            continue_final_message=False, tokenize=True, chat_template=None, **variables):  # fmt: skip
        """A conversation by the model's chat template, as in transformers: ids, or with tokenize=False text.
        `messages`: [{"role": "user", "content": "..."}, ...]. `chat_template`: a file to use instead of the model's
        template. Other keywords are variables of the template."""
        self._need_tokenizer()
        lib, template, out, chat = library(), c_void_p(), _ChatText(), _defaults(_Chat)
        chat.add_generation_prompt, chat.continue_final_message = add_generation_prompt, continue_final_message
        values = {"messages": messages, "tools": tools, "documents": documents, "variables": variables or None}
        for name, value in values.items():
            setattr(chat, name, None if value is None else json.dumps(value).encode())
        _check(lib.lckv_chat_template_open(self._folder, _bytes(chat_template), byref(template)))
        if not template:
            raise ValueError(f"{os.fsdecode(self._folder)} has no chat template: pass chat_template=FILE")
        status = lib.lckv_chat_template_render(template, byref(chat), byref(out))
        lib.lckv_chat_template_free(template)
        _check(status)
        text = ctypes.string_at(out.text, out.bytes).decode()
        lib.lckv_chat_text_free(byref(out))
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def _ids(self, given):
        """Token ids as an array; encodes text."""
        if isinstance(given, str):
            return self.encode(given)
        return _integers(given)

    # ------------------------------------------------------------ scoring

    def _score(self, ids, options, **results):
        values = _defaults(_ScoreOptions)
        _set(values, {**options, **results})
        ids = self._ids(ids)
        logprobs = numpy.zeros(max(len(ids) - 1, 1), numpy.float32)
        _check(library().lckv_score(self._need_model(), ids.ctypes.data, len(ids), byref(values), logprobs.ctypes.data))
        return logprobs[: len(ids) - 1]

    def logprobs(self, ids, **options):
        """Log probabilities of ids[1:], each given all ids before it: float32 [tokens - 1], in nats."""
        return self._score(ids, options)

    def logits(self, ids, **options):
        """Logits of the token after each token: float32 [tokens, vocab_size]."""
        ids = self._ids(ids)
        logits = numpy.empty((len(ids), self.config["vocab_size"]), numpy.float32)
        self._score(ids, options, logits=logits.ctypes.data)
        return logits

    def dump(self, ids, names="layers.*.{hidden,attn,k,v}", iterations=False, **options):
        """{name: float32 [tokens, ..]} of what layers compute; with `iterations`, in each iteration of a loop."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "inside.safetensors")
            self._score(ids, options, dump=names.encode(), dump_file=_bytes(path), dump_iterations=iterations)
            return read_safetensors(path)

    # ------------------------------------------------------------ generating

    def generate(self, prompts, stop=(), **options):
        """A list of Sequence, by prompt and then by sample. `prompts`: text, ids, or a list of either. Options are those
        of lckv_generate_options (length, temperature, top_k, top_p, seed, num_return_sequences, ...)."""
        values, made = self._generate_options(stop, options), POINTER(_Generation)()
        if not hasattr(prompts, "__getitem__"):
            raise TypeError(f"prompts should be text, token ids, or a list of either, found {prompts!r}")
        if not isinstance(prompts, str) and not len(prompts):
            raise ValueError("expected at least one prompt, found an empty list")
        if isinstance(prompts, str) or numpy.ndim(prompts[0]) == 0 and not isinstance(prompts[0], str):
            prompts = [prompts]
        arrays = [self._ids(p) for p in prompts]
        given = (_Prompt * len(arrays))(*[_prompt(a) for a in arrays])
        _check(library().lckv_generate(self._need_model(), self._tokenizer, given, len(arrays), byref(values),
                                       byref(made)))  # fmt: skip
        sequences = [Sequence(made.contents.sequences[i]) for i in range(made.contents.count)]
        library().lckv_generation_free(made)
        return sequences

    def stream(self, prompt, stop=(), **options):
        """An iterator over the new tokens of one prompt, each a Token, as generate() makes them. Options are those of
        generate(). A token is computed when the iterator is asked for it; stop by leaving the loop."""
        values, ids = self._generate_options(stop, options), self._ids(prompt)
        if values.num_return_sequences != 1:
            raise ValueError(f"num_return_sequences should be 1 to stream, found {values.num_return_sequences}")
        if values.length < 1:
            raise ValueError(f"length should be at least 1, found {values.length}")
        longest, positions = len(ids) + values.length, self.config["max_position_embeddings"]
        if not values.window_length and longest > positions:
            if len(ids) >= positions:
                raise ValueError(f"the prompt has {len(ids)} tokens, the model {positions} positions")
            longest = positions
        return self._stream(ids, longest, values)

    def _stream(self, ids, longest, values):
        lib, engine, events = library(), c_void_p(), collections.deque()

        def on_event(_, event):
            e = event.contents
            text = ctypes.string_at(e.text, e.text_bytes).decode() if self._tokenizer else None
            events.append(Token(e.token, text, e.logprob, FINISHES[e.finish]))

        options, request, number = _defaults(_EngineOptions), _defaults(_Request), c_uint64()
        callback = _EventCallback(on_event)
        _copy(values, options)
        _copy(values, request)
        options.max_num_seqs, options.max_model_len = 1, longest
        options.callback = ctypes.cast(callback, c_void_p)
        request.prompt, request.max_new_tokens = _prompt(ids), longest - len(ids)
        _check(lib.lckv_engine_create(self._need_model(), self._tokenizer, byref(options), byref(engine)))
        self._engines.append(engine)
        try:
            _check(lib.lckv_engine_submit(engine, byref(request), byref(number)))
            while events or not lib.lckv_engine_idle(engine):
                if not events:
                    _check(lib.lckv_engine_step(engine))
                while events:
                    yield events.popleft()
                    self._need_model()
        finally:
            if engine in self._engines:
                self._engines.remove(engine)
            lib.lckv_engine_free(engine)

    def _generate_options(self, stop, options):
        values = _defaults(_GenerateOptions)
        _set(values, options)
        values.stop = (c_char_p * len(stop))(*[s.encode() for s in stop]) if stop else None
        values.stop_count = len(stop)
        return values
