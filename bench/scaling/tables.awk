# The tables of bench/scaling/run in Markdown; cost.awk has the model.

function digits(x) {
    return sprintf(x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : x >= 1 ? "%.2f" : x > 0 ? "%.3f" : "0", x)
}

function grouped(x,    text, out) {
    text = sprintf("%.0f", x)
    for (; length(text) > 3; text = substr(text, 1, length(text) - 3)) out = "," substr(text, length(text) - 2) out
    return text out
}

# "1, 8 blocks", "3, 4 blocks, checkpointing".
function flags_text(    part) {
    split(best, part, " ")
    return part[1] ", " part[2] " block" (part[2] == 1 ? "" : "s") (part[3] ? ", checkpointing" : "") \
        (part[4] ? ", regathering" : "")
}

function efficiencies() {
    return sprintf("%.2f / %.2f", kept["needed"] / kept["step"], kept["needed"] / kept["step_hidden"])
}

function print_head(first, columns,    part, count, i, line) {
    count = split(columns, part, ";")
    line = "| " first " |"
    for (i = 1; i <= count; i++) line = line " " part[i] " |"
    print "\n" line
    line = "|---|"
    for (i = 1; i <= count; i++) line = line "---|"
    print line
}

# ---------------------------------------------------------------- a fixed batch per GPU

function row(config, G,    speed, hosts) {
    printf "| %s | ", grouped(G)
    if (!fastest(config, G, batch, ring, 4)) {
        print "does not fit | | | | | | | |"
        return
    }
    speed = G * batch * block / kept["step_hidden"]
    hosts = G / gpus_per_host
    printf "%s | %.0f | %s | %s | %s | %.2f | %.2f | %s |", flags_text(), best_bytes / 2 ^ 30, digits(kept["compute"]),
        digits(kept["communication"]), digits(kept["exposed"]), kept["needed"] / kept["step"],
        kept["needed"] / kept["step_hidden"], grouped(speed)
    print " " (hosts >= 1 ? grouped((speed - last_speed) / (hosts - last_hosts)) : "") " |"
    last_hosts = hosts >= 1 ? hosts : 0
    last_speed = hosts >= 1 ? speed : 0
}

function print_fixed_batch(    i, g) {
    for (i = 1; i <= config_count; i++) {
        read_model(config_list[i])
        last_hosts = last_speed = 0
        printf "\n`%s`, %s parameters:\n", name, grouped(parameters)
        print_head("GPUs", "stage, micro-batch;GiB;compute, s;communication, s;not hidden, s;efficiency, nothing hidden;" \
            "efficiency;tokens/s;per added host")
        for (g = 1; g <= gpu_count; g++) row(config_list[i], gpu_list[g])
    }
}

# ---------------------------------------------------------------- a fixed global batch

function print_fixed_global(    i, g, G, line) {
    for (i = 1; i <= config_count; i++) {
        read_model(config_list[i])
        line = line (i > 1 ? ";" : "") name
    }
    print_head("GPUs", "blocks per GPU;" line)
    for (g = 1; g <= gpu_count; g++) {
        G = gpu_list[g]
        if (G > global_batch) continue
        printf "| %s | %d |", grouped(G), global_batch / G
        for (i = 1; i <= config_count; i++) {
            read_model(config_list[i])
            printf " %s |", fastest(config_list[i], G, int(global_batch / G), ring, 4) ? efficiencies() : "does not fit"
        }
        print ""
    }
}

# ---------------------------------------------------------------- limits

# The largest number of GPUs with an efficiency of at least 0.8.
function limit(config, fixed_global, step_name,    g, G, blocks, reached) {
    for (g = 1; g <= gpu_count; g++) {
        G = gpu_list[g]
        blocks = fixed_global ? int(global_batch / G) : batch
        if (blocks < 1 || !fastest(config, G, blocks, ring, 4)) continue
        if (kept["needed"] / kept[step_name] >= 0.8) reached = G
    }
    return reached ? grouped(reached) : "none"
}

function print_limits(    i) {
    print_head("config", "fixed batch per GPU, nothing hidden;fixed batch per GPU;fixed global batch, nothing hidden;fixed global batch")
    for (i = 1; i <= config_count; i++) {
        read_model(config_list[i])
        printf "| %s | %s | %s | %s | %s |\n", name, limit(config_list[i], 0, "step"),
            limit(config_list[i], 0, "step_hidden"), limit(config_list[i], 1, "step"),
            limit(config_list[i], 1, "step_hidden")
    }
}

function variant_text(config, G, form, gradient, least) {
    return fastest(config, G, batch, form, gradient, least) ? efficiencies() : "does not fit"
}

# At the largest number of GPUs: what is latency, and what other rings and smaller gradients would bring.
function print_variants(    i, G, c) {
    G = gpu_list[gpu_count]
    print_head("config", "communication, s;of it latency, s;as above;stage 3;hierarchical ring;bf16 gradients;both")
    for (i = 1; i <= config_count; i++) {
        c = config_list[i]
        read_model(c)
        if (!fastest(c, G, batch, "flat", 4)) continue
        printf "| %s | %s | %s | %s | ", name, digits(kept["communication"]), digits(kept["latency"]), efficiencies()
        printf "%s | %s | %s | %s |\n", variant_text(c, G, "flat", 4, 3), variant_text(c, G, "hierarchical", 4),
            variant_text(c, G, "flat", 2), variant_text(c, G, "hierarchical", 2)
    }
}

# ---------------------------------------------------------------- decoding

function print_decoding(    i, count, T, one, time, list, configs_here) {
    configs_here = split(decode, list, ",")
    print_head("config", "sequences;1 process: weights and KV, kernels, ms;tokens/s;2 processes: sums, ms;tokens/s;" \
        "4: sums, ms;tokens/s;8: sums, ms;tokens/s")
    for (i = 1; i <= configs_here; i++) {
        read_model(list[i])
        for (count = 1; count <= 64; count *= 64) {
            one = decode_time(list[i], 1, count, length_of)
            printf "| %s | %d | %.2f + %.2f | %s |", name, count, 1e3 * reading, 1e3 * starting, grouped(count / one)
            for (T = 2; T <= 8; T *= 2) {
                time = decode_time(list[i], T, count, length_of)
                printf " %.2f | %s (%.2f / %.2f) |", 1e3 * sums, grouped(count / time), one / time,
                    one / (reading + starting + sums_nccl)
            }
            print ""
        }
    }
}

# ---------------------------------------------------------------- measured speeds

# "139,224 | 142,692 | 0.98 |"
function beside(found, computed) {
    return (found < 100 ? found : grouped(found)) " | " (computed < 100 ? sprintf("%.1f", computed) : grouped(computed)) \
        sprintf(" | %.2f |", found / computed)
}

function config_path(config) {
    return configs_folder "/" config ".json"
}

# train CONFIG STAGE BLOCKS CHECKPOINTING GPUS SPEED WAIT MEMORY
function training_point(part,    json, G) {
    G = part[6]
    read_model(config_path(part[2]))
    json = inspected(config_path(part[2]), "--num_processes " G " --zero " part[3] \
        " --per_device_train_batch_size " part[4] " --block_size 2048")
    step_time(G, part[3], number(json, part[5] ? "gradient_checkpointing" : "training", "flops"), 1, part[5], 0, ring, 4)
    printf "| %s | %d, %d blocks%s | %d | %s", part[2], part[3], part[4], part[5] ? ", checkpointing" : "", G,
        beside(part[7], G * part[4] * 2048 / step_hidden)
    if (G == 1) print " | | |"
    else printf " %s %% | %.1f %% | %s |\n", part[8], 100 * exposed / step_hidden, part[9]
}

# decode CONFIG SEQUENCES GPUS SPEED SUMS
function decoding_point(part,    time) {
    read_model(config_path(part[2]))
    time = decode_time(config_path(part[2]), part[4], part[3], 192)
    if (part[6] == "nccl") time = reading + starting + sums_nccl
    printf "| %s | %d | %d | %s | %s\n", part[2], part[3], part[4],
        part[6] == "peer" ? "peer memory" : part[6] == "nccl" ? "NCCL" : "", beside(part[5], part[3] / time)
}

# sum BYTES PEER NCCL
function sum_point(part,    over_peer, over_nccl) {
    over_peer = 1e6 * peer_sum(2, part[2])
    over_nccl = 1e6 * all_reduce(2, part[2], 1, "flat")
    printf "| %s | %s | %.1f | %.2f | %s | %.1f | %.2f |\n", grouped(part[2]), part[3], over_peer, part[3] / over_peer,
        part[4], over_nccl, part[4] / over_nccl
}

# The lines of the file `measured`, a table for each kind.
function print_measured(    line, part, kind) {
    while ((getline line < measured) > 0) {
        split(line, part, " ")
        if (part[1] != "train" && part[1] != "decode" && part[1] != "sum") continue
        if (part[1] != kind && part[1] == "train")
            print_head("training", "stage;GPUs;tokens/s;computed;ratio;wait;computed, not hidden;memory over the plan")
        if (part[1] != kind && part[1] == "decode") print_head("decoding", "sequences;GPUs;sums;tokens/s;computed;ratio")
        if (part[1] != kind && part[1] == "sum")
            print_head("bytes of a sum", "peer memory, us;computed;ratio;NCCL, us;computed;ratio")
        kind = part[1]
        if (kind == "train") training_point(part)
        else if (kind == "decode") decoding_point(part)
        else sum_point(part)
    }
    close(measured)
}

function print_title(text) {
    printf "%s### %s\n", titles++ ? "\n" : "", text
}

BEGIN {
    config_count = split(configs, config_list, ",")
    gpu_count = split(gpus, gpu_list, ",")
    print_title("A fixed batch of " batch " blocks per GPU")
    print_fixed_batch()
    print_title("A fixed global batch of " grouped(global_batch) " blocks")
    print_fixed_global()
    print_title("Most GPUs with an efficiency of at least 0.8")
    print_limits()
    print_title("Stage 3, hierarchical rings, smaller gradients: " batch " blocks per GPU on " grouped(gpu_list[gpu_count]) " GPUs")
    print_variants()
    if (decode != "") {
        print_title("Decoding with tensor parallelism, " grouped(length_of) " tokens per sequence")
        print_decoding()
    }
    if (measured != "") {
        print_title("Measured beside computed: one and two H200")
        print_measured()
    }
    print ""
}
END {
    if (failed) exit 1
}
