/* The part of a model that one of several ranks has; see rank_part.h. */
#include "model/ranks/rank_part.h"

typedef struct range {
    int64_t first, count;
} range;

/* Share `i` of `shares` of `count` items; earlier ones get one more. */
static range share(int64_t count, int i, int shares) {
    int64_t each = count / shares, more = count % shares;
    return (range){.first = each * i + (i < more ? i : more), .count = each + (i < more)};
}

/* Every rank has KV heads of its own. */
static void divide_kv_heads(layer_description *l, int rank, int ranks) {
    int group = l->all_heads / l->all_kv_heads;
    range kv = share(l->all_kv_heads, rank, ranks);
    l->first_kv_head = (int)kv.first;
    l->kv_heads = (int)kv.count;
    l->first_head = l->first_kv_head * group;
    l->heads = l->kv_heads * group;
}

/* The first of the ranks that have a KV head. */
static int first_rank_of(int kv_head, int kv_heads, int ranks) {
    return (int)((int64_t)kv_head * ranks / kv_heads);
}

/* The last KV head whose first rank is at most this one. */
static int kv_head_of(int rank, int kv_heads, int ranks) {
    return (int)((((int64_t)rank + 1) * kv_heads - 1) / ranks);
}

/* Several ranks have the same KV head, and divide the queries that attend to it. */
static void divide_queries(layer_description *l, int rank, int ranks) {
    int group = l->all_heads / l->all_kv_heads;
    int kv_head = kv_head_of(rank, l->all_kv_heads, ranks);
    int first = first_rank_of(kv_head, l->all_kv_heads, ranks),
        next = first_rank_of(kv_head + 1, l->all_kv_heads, ranks);
    range queries = share(group, rank - first, next - first);
    l->first_kv_head = kv_head;
    l->kv_heads = 1;
    l->copies_kv = rank > first;
    l->first_head = kv_head * group + (int)queries.first;
    l->heads = (int)queries.count;
}

static void divide_columns(layer_description *l, int rank, int ranks) {
    int64_t all = l->all_intermediate,
            unit = all % RANK_PART_COLUMNS || all / RANK_PART_COLUMNS < ranks ? 1 : RANK_PART_COLUMNS;
    range units = share(all / unit, rank, ranks);
    l->first_intermediate = units.first * unit;
    l->intermediate_size = units.count * unit;
}

static void divide_layer(layer_description *l, int rank, int ranks) {
    if (l->all_kv_heads >= ranks)
        divide_kv_heads(l, rank, ranks);
    else
        divide_queries(l, rank, ranks);
    divide_columns(l, rank, ranks);
}

/* Every rank makes the same check, so that all of them fail. */
static int check_layer(const layer_description *l, int layer, int ranks) {
    REQUIRE(l->all_heads >= ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel is %d, but layer %d has %d attention heads: every rank needs one", ranks, layer,
            l->all_heads);
    REQUIRE(l->all_intermediate >= ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel is %d, but the MLP of layer %d has %lld columns: every rank needs one", ranks, layer,
            (long long)l->all_intermediate);
    return LCKV_OK;
}

int rank_part_config(const model_config *whole, int rank, int ranks, model_config **out) {
    *out = NULL;
    REQUIRE(ranks >= 1 && ranks <= RANK_PART_MAX_RANKS && rank >= 0 && rank < ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel: expected 1 to %d ranks, found rank %d of %d", RANK_PART_MAX_RANKS, rank, ranks);
    for (int i = 0; i < whole->layers; i++) TRY(check_layer(&whole->map.layer[i], i, ranks));
    TRY(config_copy(whole, out));
    model_config *c = *out;
    for (int i = 0; i < c->layers; i++) divide_layer(&c->map.layer[i], rank, ranks);
    c->heads = c->map.layer[0].heads;
    c->kv_heads = c->map.layer[0].kv_heads;
    c->intermediate_size = c->map.layer[0].intermediate_size;
    return LCKV_OK;
}
