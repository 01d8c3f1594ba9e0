"""Makes formats.gguf, the fixture of tests/test_gguf_formats.c, with the Python package gguf 0.19.

For each format NAME there is a tensor NAME of random blocks, and NAME.f32 with the package's dequantized values. For the
formats that lckv writes, encode.NAME has the package's blocks of encode.f32.
"""
import sys

import gguf
import numpy

from gguf.quants import dequantize, quantize

random = numpy.random.default_rng(20)
writer = gguf.GGUFWriter(sys.argv[1], "llama")
types = gguf.GGMLQuantizationType


def scales(blocks, at):
    """Random f16 at a byte of each block, of both signs, with a zero and a subnormal among them."""
    values = (random.standard_normal(len(blocks)) * 0.1).astype(numpy.float16)
    values[0] = 0 if at else 3e-7
    blocks[:, at : at + 2] = values.view(numpy.uint8).reshape(-1, 2)


for name, places in {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}.items():
    size, bytes_per_block = gguf.GGML_QUANT_SIZES[types[name]]
    blocks = random.integers(0, 256, (3, bytes_per_block), numpy.uint8)
    for at in places:
        scales(blocks, at)
    blocks = blocks.reshape(1, -1)
    writer.add_tensor(name, blocks, raw_dtype=types[name])
    writer.add_tensor(name + ".f32", dequantize(blocks, types[name]).astype(numpy.float32))

values = (random.standard_normal((1, 256)) * 3).astype(numpy.float32)
values[0, :32] = 0  # a group without a scale
values[0, 64:96] *= 1e-6  # f16 subnormals
values[0, 96:128] = numpy.round(values[0, 96:128] * 2) / 2  # equal magnitudes, halves
writer.add_tensor("encode.f32", values)
for name in "F16", "BF16", "Q8_0", "Q4_0":
    blocks = values.astype(numpy.float16) if name == "F16" else quantize(values, types[name])
    writer.add_tensor("encode." + name, blocks, raw_dtype=types[name] if name != "F16" else None)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
