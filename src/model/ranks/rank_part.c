/* The part of a model that one of several ranks has; see rank_part.h. */
#include "model/ranks/rank_part.h"

#include "device/dtype.h"

typedef struct range {
    int64_t first, count;
} range;

/* What is not separated: KV heads with their queries, and queries of a KV head that several ranks have. Equal in all
 * layers, because layers read the KV heads of others. */
typedef struct division {
    int rank, ranks;
    bool grouped; /* quantized weights */
    int kv_heads, queries;
} division;

/* Share `i` of `shares` of `count` items; earlier ones get one more. */
static range share(int64_t count, int i, int shares) {
    int64_t each = count / shares, more = count % shares;
    return (range){.first = each * i + (i < more ? i : more), .count = each + (i < more)};
}

static int64_t units_in(int64_t count, int64_t unit) {
    return (count + unit - 1) / unit;
}

/* The same in units; the last unit may be incomplete. */
static range share_units(int64_t count, int64_t unit, int i, int shares) {
    range units = share(units_in(count, unit), i, shares);
    int64_t first = units.first * unit, end = first + units.count * unit;
    return (range){.first = first, .count = (end < count ? end : count) - first};
}

static int group_of(const layer_description *l) {
    return l->all_heads / l->all_kv_heads;
}

/* Every rank has KV heads of its own. */
static void divide_kv_heads(layer_description *l, const division *d) {
    int group = group_of(l);
    range kv = share_units(l->all_kv_heads, d->kv_heads, d->rank, d->ranks);
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
static void divide_queries(layer_description *l, const division *d) {
    int group = group_of(l), kv_head = kv_head_of(d->rank, l->all_kv_heads, d->ranks);
    int first = first_rank_of(kv_head, l->all_kv_heads, d->ranks),
        next = first_rank_of(kv_head + 1, l->all_kv_heads, d->ranks);
    range queries = share_units(group, d->queries, d->rank - first, next - first);
    l->first_kv_head = kv_head;
    l->kv_heads = 1;
    l->copies_kv = d->rank > first;
    l->first_head = kv_head * group + (int)queries.first;
    l->heads = (int)queries.count;
}

static void divide_columns(layer_description *l, const division *d) {
    int64_t all = l->all_intermediate,
            unit = all % RANK_PART_COLUMNS || all / RANK_PART_COLUMNS < d->ranks ? 1 : RANK_PART_COLUMNS;
    range columns = share_units(all, d->grouped ? DTYPE_GROUP : unit, d->rank, d->ranks);
    l->first_intermediate = columns.first;
    l->intermediate_size = columns.count;
}

static void divide_layer(layer_description *l, const division *d) {
    if (l->all_kv_heads >= d->ranks)
        divide_kv_heads(l, d);
    else
        divide_queries(l, d);
    divide_columns(l, d);
}

/* ---------------------------------------------------------------- groups of columns */

/* The fewest items of `columns` columns each that are whole groups. DTYPE_GROUP is a power of two. */
static int whole_groups(int64_t columns) {
    int items = 1;
    while (items * columns % DTYPE_GROUP) items *= 2;
    return items;
}

static division division_of(const model_config *c, int rank, int ranks) {
    division d = {.rank = rank, .ranks = ranks, .grouped = c->weight_format != WEIGHT_FLOAT, 1, 1};
    for (int i = 0; i < c->layers && d.grouped; i++) {
        const layer_description *l = &c->map.layer[i];
        int queries = whole_groups(l->head_dim), kv_heads = whole_groups((int64_t)group_of(l) * l->head_dim);
        if (queries > d.queries) d.queries = queries;
        if (kv_heads > d.kv_heads) d.kv_heads = kv_heads;
    }
    return d;
}

/* The most ranks that get heads. If KV heads do not consist of whole groups, ranks do not share them. */
static int64_t most_ranks(const layer_description *l, const division *d) {
    if (d->kv_heads > 1) return units_in(l->all_kv_heads, d->kv_heads);
    return (int64_t)l->all_kv_heads * units_in(group_of(l), d->queries);
}

static int check_groups(const layer_description *l, int layer, const division *d) {
    int64_t most = most_ranks(l, d), columns = units_in(l->all_intermediate, DTYPE_GROUP);
    REQUIRE(most >= d->ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel is %d, but o_proj of layer %d has %d heads of %d columns, for %d KV heads: quantized "
            "weights (int8, int4) are divided at multiples of %d columns; choose at most %lld, or weight_dtype float",
            d->ranks, layer, l->all_heads, l->head_dim, l->all_kv_heads, DTYPE_GROUP, (long long)most);
    REQUIRE(columns >= d->ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel is %d, but down_proj of layer %d has %lld columns: quantized weights (int8, int4) are "
            "divided at multiples of %d columns; choose at most %lld, or weight_dtype float",
            d->ranks, layer, (long long)l->all_intermediate, DTYPE_GROUP, (long long)columns);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- all layers */

/* Every rank makes the same check, so that all of them fail. */
static int check_layer(const layer_description *l, int layer, const division *d) {
    int ranks = d->ranks;
    REQUIRE(l->all_heads >= ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel is %d, but layer %d has %d attention heads: every rank needs one", ranks, layer,
            l->all_heads);
    REQUIRE(l->all_intermediate >= ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel is %d, but the MLP of layer %d has %lld columns: every rank needs one", ranks, layer,
            (long long)l->all_intermediate);
    return d->grouped ? check_groups(l, layer, d) : LCKV_OK;
}

int rank_part_config(const model_config *whole, int rank, int ranks, model_config **out) {
    *out = NULL;
    REQUIRE(ranks >= 1 && ranks <= RANK_PART_MAX_RANKS && rank >= 0 && rank < ranks, LCKV_ERROR_ARGUMENT,
            "tensor_parallel: expected 1 to %d ranks, found rank %d of %d", RANK_PART_MAX_RANKS, rank, ranks);
    division d = division_of(whole, rank, ranks);
    for (int i = 0; i < whole->layers; i++) TRY(check_layer(&whole->map.layer[i], i, &d));
    TRY(config_copy(whole, out));
    model_config *c = *out;
    for (int i = 0; i < c->layers; i++) divide_layer(&c->map.layer[i], &d);
    c->heads = c->map.layer[0].heads;
    c->kv_heads = c->map.layer[0].kv_heads;
    c->intermediate_size = c->map.layer[0].intermediate_size;
    return LCKV_OK;
}
