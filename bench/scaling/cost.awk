# The cost model of bench/scaling/run: what lckv inspect says about a process, and the time of a step. Rates are GB/s,
# TFLOP/s and microseconds, times are seconds.

# ---------------------------------------------------------------- lckv inspect

# The output for a config with flags; each command runs once.
function inspected(config, flags,    command, line) {
    command = "'" lckv "' inspect --config_name '" config "' --json --bf16 " flags
    if (!(command in outputs)) {
        if ((command | getline line) <= 0) {
            print "bench/scaling/run: failed: " command >"/dev/stderr"
            failed = 1
            exit 1
        }
        close(command)
        outputs[command] = line
    }
    return outputs[command]
}

# The first number with this name, within the object of that name ("": anywhere); -1: there is none.
function number(json, object, name,    at) {
    if (object != "") {
        at = index(json, "\"" object "\":{")
        if (!at) return -1
        json = substr(json, at)
    }
    if (!match(json, "\"" name "\":[-+.0-9e]+")) return -1
    return substr(json, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
}

# Layers of loops: plan steps that occur more than once.
function layers_of_loops(json,    part, count, i, seen, layers) {
    count = split(substr(json, index(json, "\"plan\":")), part, "{\"first\":")
    for (i = 2; i <= count; i++) {
        sub(/,"with_grad.*/, "", part[i])
        if (++seen[part[i]] == 2) layers += substr(part[i], index(part[i], ":") + 1) - part[i] + 1
    }
    return layers + 0
}

# Sets the variables of a model: numbers of parameters and the iterations of its loops.
function read_model(config,    json, looped) {
    json = inspected(config, "--block_size " block)
    name = config
    sub(/.*\//, "", name)
    sub(/\.json$/, "", name)
    layers = number(json, "", "layers")
    hidden_size = number(json, "", "hidden_size")
    parameters = number(json, "", "parameters")
    embedding = number(json, "", "vocab_size") * hidden_size
    tied = index(json, "\"tie_word_embeddings\":true") > 0
    head = tied ? 0 : embedding
    loops = number(json, "", "loops")
    m = number(json, "", "forward_passes")
    b = loops ? number(json, "", "backward_passes") : 1
    looped = layers_of_loops(json) / layers
    in_loops = (parameters - embedding - head) * looped
    outside = (parameters - embedding - head) - in_loops
    units = layers + 2 + !tied # embedding, layers, final norm, head: one collective each
    rate = 1e12 * product * (loops ? share_loops : share_plain)
}

# ---------------------------------------------------------------- collectives

# Seconds to reduce-scatter, or all-gather, `bytes` in total in `calls` calls between G GPUs. Sets bandwidth_part and latency_part.
function collective(G, bytes, calls, form,    hosts, here, links) {
    bandwidth_part = latency_part = 0
    if (G < 2) return 0
    hosts = G > gpus_per_host ? G / gpus_per_host : 1
    here = G / hosts
    if (form == "hierarchical") {
        bandwidth_part = bytes * ((here - 1) / here / nvlink + (hosts - 1) / hosts / network) / 1e9
        latency_part = ((here - 1) * nvlink_hop + (hosts - 1) * network_hop + (hosts > 1 ? 2 : 1) * call) * calls / 1e6
    } else {
        links = hosts > 1 && network < nvlink ? network : nvlink
        bandwidth_part = bytes * (G - 1) / G / links / 1e9
        latency_part = ((G - hosts) * nvlink_hop + (hosts - 1) * network_hop + call) * calls / 1e6
    }
    return bandwidth_part + latency_part
}

function all_reduce(G, bytes, calls, form) {
    return 2 * collective(G, bytes, calls, form) - (G > 1 ? call * calls / 1e6 : 0)
}

# ---------------------------------------------------------------- a training step

# FLOPs of a micro-batch by phase, in units of one product of the parameters: sets forward, backward, and the parts in
# which each layer runs once: of a model with loops, only one iteration can hide the communication of their layers.
function phases(checkpointing) {
    forward = outside + head + (loops ? (m + b) * in_loops : in_loops)
    backward = 2 * (outside + head) + 2 * b * in_loops
    once_forward = outside + head + in_loops
    once_backward = 2 * once_forward
    if (checkpointing) {
        backward += outside + b * in_loops
        once_backward += outside + in_loops
    }
}

# The time of a step of one process. `flops`: of all its micro-batches. Sets compute, communication and exposed (what is
# left of it if the rest runs at the same time as the passes), step and step_hidden, latency (part of communication).
# `gradient`: bytes per gradient.
function step_time(G, zero, flops, micro_batches, checkpointing, regather, form, gradient,
                   scatter, gather, gather_back, scatter_latency, small, window_f, window_b, gathers, scatters) {
    phases(checkpointing)
    compute = flops / rate
    window_f = hidden * compute / micro_batches * (regather ? forward : once_forward) / (forward + backward)
    window_b = hidden * compute / micro_batches * (regather ? backward : once_backward) / (forward + backward)
    small = all_reduce(G, 0, 2, form) # loss and gradient norm
    latency = small
    if (zero == 1) {
        scatter = collective(G, gradient * parameters, units, form)
        latency += latency_part
        gather = collective(G, 2 * parameters, units, form)
        latency += latency_part
        communication = scatter + gather + small
        exposed = largest(scatter / units, scatter - window_b) + gather + small
    } else {
        gathers = regather ? parameters + (m + b - 1) * in_loops : parameters
        scatters = regather ? parameters + (b - 1) * in_loops : parameters
        gather = collective(G, 2 * gathers, units * gathers / parameters, form)
        latency += micro_batches * latency_part
        gather_back = collective(G, 2 * (scatters - embedding - head), layers * scatters / parameters, form)
        latency += micro_batches * latency_part
        scatter = collective(G, gradient * scatters, units * scatters / parameters, form)
        latency += micro_batches * latency_part
        communication = micro_batches * (gather + gather_back + scatter) + small
        exposed = micro_batches * (largest(gather / units, gather - window_f) + \
                                   largest(scatter / units, gather_back + scatter - window_b)) + small
    }
    agreement = G > 1 ? 3 * (G - 1) * message / 1e6 : 0 # between processors, while the GPU works
    step = largest(compute + communication, agreement)
    step_hidden = largest(compute + exposed, agreement)
}

function largest(x, y) {
    return x > y ? x : y
}

# ---------------------------------------------------------------- the fastest flags that fit

function consider(config, G, zero, size, blocks, regather, variant, form, gradient,    json, object, bytes) {
    json = inspected(config, "--num_processes " G " --zero " zero (regather ? " --zero_regather_loops" : "") \
        " --per_device_train_batch_size " size " --block_size " block)
    object = variant ? "gradient_checkpointing" : "training"
    bytes = number(json, object, "total")
    if (bytes < 0 || bytes * 1.05 > memory * 2 ^ 30) return 0 # lckv train adds 5 % to the plan
    step_time(G, zero, number(json, object, "flops") * blocks / size, blocks / size, variant, regather, form, gradient)
    if (!found || step_hidden < 0.95 * kept["step_hidden"]) {
        found = 1
        kept["needed"] = number(json, "training", "flops") * blocks / size / rate
        best = zero " " size " " variant " " regather
        best_bytes = bytes
        kept["compute"] = compute
        kept["communication"] = communication
        kept["exposed"] = exposed
        kept["latency"] = latency
        kept["agreement"] = agreement
        kept["step"] = step
        kept["step_hidden"] = step_hidden
    }
    return 1
}

# Finds flags for `blocks` per GPU: the stage, the micro-batch (the largest half, quarter, ... of the batch that fits),
# checkpointing and regathering. Stage 3 is used where stage 1 does not fit, or always with `least` 3; another flag where
# the step without it does not fit or is 5 % longer. Sets best, best_bytes and kept[]; "needed" is the time of compute
# without what checkpointing repeats. Returns 0 if nothing fits.
function fastest(config, G, blocks, form, gradient, least,    zero, regather, variant, size) {
    found = 0
    for (zero = least == 3 ? 3 : 1; zero <= 3 && !found; zero += 2)
        for (regather = 0; regather <= (zero == 3 && G > 1 && loops > 0); regather++)
            for (variant = 0; variant <= 1; variant++)
                for (size = blocks < batch ? blocks : batch; size >= 1; size = size > 1 ? int(size / 2) : 0) {
                    if (G == 1 && zero == 3) continue
                    if (blocks % size) continue
                    if (consider(config, G, zero, size, blocks, regather, variant, form, gradient)) break
                }
    return found
}

# ---------------------------------------------------------------- decoding

# Seconds of a sum of `bytes` alone: through peer memory, where every process sends twice the bytes to every other one.
function peer_sum(T, bytes) {
    return peer / 1e6 + 2 * bytes * (T - 1) / peer_rate / 1e9
}

# Seconds of the sums of a decoding step: through peer memory, or by NCCL if they are too large. NCCL's kernels do not
# overlap with the kernels before and after them, as lckv's kernels do.
function decode_sums(T, count, limit,    bytes) {
    bytes = 4 * count * hidden_size
    if (T == 1) return 0
    if (bytes > limit) return all_reduce(T, 2 * layers * bytes, 2 * layers, "flat") + 2 * layers * nccl_gap / 1e6
    return 2 * layers * peer_sum(T, bytes)
}

# Seconds of a decoding step of `count` sequences with T processes on one host, and its parts reading, starting, sums, and
# sums_nccl, which it has instead without peer memory. The message of rank 0 before a step is one call. More than 32
# rows (CUDA_FEW_ROWS) are multiplied by kernels that read faster, but are more per layer and wait longer for each other.
function decode_time(config, T, count, length_here,    json, bytes, message, many) {
    json = inspected(config, "--torch_dtype bfloat16 --tensor_parallel " T " --num_sequences " count \
        " --length " length_here)
    bytes = number(json, "serving", "weights") - (tied ? 0 : 2 * embedding) + number(json, "serving", "kv_cache_plain")
    many = count > 32
    reading = largest(bytes / copy / (many ? share_rows : share_decode) / 1e9, \
                      number(json, "serving", "flops") / product / 1e12)
    starting = layers * (many ? kernels_rows * kernel_rows : kernels * kernel) / 1e6
    message = T > 1 ? call / 1e6 : 0
    sums = decode_sums(T, count, peer_limit) + message
    sums_nccl = decode_sums(T, count, 0) + message
    return reading + starting + sums
}
