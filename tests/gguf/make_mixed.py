"""Makes mixed.gguf and mixed_logits.bin, the fixtures of tests/test_generate_gguf.c.

    python make_mixed.py libggml-base.so mixed.gguf mixed_logits.bin

The first argument is the library of llama.cpp (0.3.36 of llama-cpp-python), which quantizes. mixed.gguf is a small Llama
of random weights, each matrix in another format. mixed_logits.bin are the logits of transformers 5.24 for the tokens 0, 7,
14, .. modulo 16, f32 [20, 16], with the weights that transformers dequantizes from the file.
"""
import ctypes
import os
import sys

import gguf
import numpy
import torch
import transformers

HIDDEN, WIDTH, HEADS, KV_HEADS, HEAD_DIM, TOKENS = 256, 32, 2, 1, 16, 16
T = gguf.GGMLQuantizationType
ggml = ctypes.CDLL(sys.argv[1])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
random = numpy.random.default_rng(20)
writer = gguf.GGUFWriter(sys.argv[2], "llama")


def add(name, rows, columns, type, scale):
    values = (random.standard_normal((rows, columns)) * scale).astype(numpy.float32)
    size, bytes_per_block = gguf.GGML_QUANT_SIZES[type]
    blocks = numpy.zeros((rows, columns // size * bytes_per_block), numpy.uint8)
    ggml.ggml_quantize_chunk(int(type), values.ctypes.data, blocks.ctypes.data, 0, rows, columns, None)
    writer.add_tensor(name, blocks, raw_dtype=type)


def norm(name):
    writer.add_tensor(name, (1 + random.standard_normal(HIDDEN) * 0.1).astype(numpy.float32))


writer.add_context_length(64)
writer.add_embedding_length(HIDDEN)
writer.add_block_count(1)
writer.add_feed_forward_length(WIDTH)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_freq_base(10000.0)
writer.add_rope_dimension_count(HEAD_DIM)
writer.add_key_length(HEAD_DIM)
writer.add_value_length(HEAD_DIM)
writer.add_vocab_size(TOKENS)
writer.add_tokenizer_model("none")
add("token_embd.weight", TOKENS, HIDDEN, T.Q4_0, 1)
norm("output_norm.weight")
add("output.weight", TOKENS, HIDDEN, T.Q8_0, 4 / 16)
norm("blk.0.attn_norm.weight")
norm("blk.0.ffn_norm.weight")
add("blk.0.attn_q.weight", HEADS * HEAD_DIM, HIDDEN, T.Q4_0, 2 / 16)
add("blk.0.attn_k.weight", KV_HEADS * HEAD_DIM, HIDDEN, T.Q8_0, 2 / 16)
add("blk.0.attn_v.weight", KV_HEADS * HEAD_DIM, HIDDEN, T.Q6_K, 2 / 16)
add("blk.0.attn_output.weight", HIDDEN, HEADS * HEAD_DIM, T.Q8_0, 0.3)
add("blk.0.ffn_gate.weight", WIDTH, HIDDEN, T.Q4_K, 2 / 16)
add("blk.0.ffn_up.weight", WIDTH, HIDDEN, T.Q4_1, 2 / 16)
add("blk.0.ffn_down.weight", HIDDEN, WIDTH, T.Q4_0, 0.3)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

folder, name = os.path.split(os.path.abspath(sys.argv[2]))
model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
ids = torch.arange(20) * 7 % TOKENS
with torch.no_grad():
    logits = model(ids[None]).logits[0].numpy()
logits.astype("<f4").tofile(sys.argv[3])
print(f"{logits.shape}, largest {abs(logits).max():.2f}")
