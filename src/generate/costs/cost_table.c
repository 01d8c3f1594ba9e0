/* Cost tables, see cost_table.h. */
#include "generate/costs/cost_table.h"

#include "base/files/file.h"
#include "base/text/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- estimates */

static bool comes_before(const lckv_step_cost *a, const lckv_step_cost *b) {
    if (a->encoding != b->encoding) return a->encoding < b->encoding;
    if (a->rows != b->rows) return a->rows < b->rows;
    return a->depth < b->depth;
}

void cost_table_add(cost_table *t, lckv_step_cost step) {
    if (t->count == COST_MAX_STEPS) return;
    int at = t->count++;
    for (; at > 0 && comes_before(&step, &t->steps[at - 1]); at--) t->steps[at] = t->steps[at - 1];
    t->steps[at] = step;
}

/* The line through two points at x, of which the second is later. A step with more rows or more depth does not get
 * cheaper: where it was measured so, the measurement is noise. Rounding does not raise a value between the points above
 * y2: the next line starts there. */
static double on_line(double x1, double y1, double x2, double y2, double x) {
    if (x2 <= x1 || y2 <= y1) return y1;
    double y = y1 + (y2 - y1) / (x2 - x1) * (x - x1);
    return x <= x2 ? fmin(y, y2) : y;
}

/* Steps first .. end - 1 have the same form and number of rows. */
typedef struct same_rows {
    int first, end;
} same_rows;

static double seconds_at_depth(const cost_table *t, same_rows group, double depth) {
    int at = group.first;
    const lckv_step_cost *s = t->steps;
    if (group.end - group.first == 1 || depth <= (double)s[at].depth) return s[at].seconds;
    while (at + 2 < group.end && depth > (double)s[at + 1].depth) at++;
    return on_line((double)s[at].depth, s[at].seconds, (double)s[at + 1].depth, s[at + 1].seconds, depth);
}

/* Rows that were measured at one depth only get their share of what the rows of `like` need for each token of depth. */
static double seconds_of(const cost_table *t, same_rows group, same_rows like, double depth) {
    const lckv_step_cost *s = &t->steps[group.first];
    if (group.end - group.first > 1 || like.end - like.first < 2) return seconds_at_depth(t, group, depth);
    if (depth <= (double)s->depth) return s->seconds;
    double base = (double)s->depth, ratio = (double)s->rows / (double)t->steps[like.first].rows;
    return s->seconds + ratio * (seconds_at_depth(t, like, depth) - seconds_at_depth(t, like, base));
}

double cost_of_step(const cost_table *t, lckv_encoding form, double rows, double depth) {
    double rows_before = 0, before = 0;
    same_rows like = {0, 0};
    if (rows <= 0) return 0;
    for (int i = 0; i < t->count;) {
        same_rows group = {i, i};
        const lckv_step_cost *s = &t->steps[i];
        while (group.end < t->count && t->steps[group.end].encoding == s->encoding &&
               t->steps[group.end].rows == s->rows)
            group.end++;
        i = group.end;
        if (s->encoding != form) continue;
        if (group.end - group.first > 1) like = group;
        double seconds = seconds_of(t, group, like, depth), measured = (double)s->rows;
        if (rows <= measured) return rows_before > 0 ? on_line(rows_before, before, measured, seconds, rows) : seconds;
        rows_before = measured;
        before = seconds > before ? seconds : before;
    }
    return rows_before > 0 ? before * rows / rows_before : 0;
}

/* ---------------------------------------------------------------- keys */

int cost_key_make(const model *m, dtype compute, dtype kv_type, int iterations, const chunk_rules *chunks,
                  cost_key *out) {
    const model_config *c = m->config;
    device *d = m->device;
    enum { SIZES_BYTES = 400 };
    char *types;
    size_t available, total;
    bool other = kv_type != DTYPE_F32 && kv_type != compute;
    *out = (cost_key){0};
    TRY(d->memory.available(d, &available, &total));
    if (d->host_memory)
        snprintf(out->device, sizeof out->device, "%s, %d threads", d->features, d->threads);
    else
        snprintf(out->device, sizeof out->device, "%s, %.0f GiB", d->features, (double)total / (1 << 30));
    TRY(layer_map_format(&c->map, &types));
    size_t bytes = strlen(types) + SIZES_BYTES;
    out->model = malloc(bytes);
    if (out->model)
        snprintf(
            out->model, bytes,
            "hidden %lld, MLP %lld, heads %d of %d, KV heads %d, vocabulary %lld, window %lld, layers %s, weights %s, "
            "compute %s%s%s, iterations %d, chunks of %lld to %lld%s%s",
            (long long)c->hidden_size, (long long)c->intermediate_size, c->heads, c->head_dim, c->kv_heads,
            (long long)c->vocab_size, (long long)c->sliding_window, types, dtype_name(m->params->head->value.type),
            dtype_name(compute), other ? ", KV " : "", other ? dtype_name(kv_type) : "",
            iterations ? iterations : model_default_iterations(m), (long long)chunks->smallest,
            (long long)chunks->largest, chunks->keeps_rest ? ", whole rest" : "",
            m->ranks ? ", one of several ranks" : "");
    free(types);
    REQUIRE(out->model, LCKV_ERROR_MEMORY, "no memory for the key of a cost table");
    return LCKV_OK;
}

void cost_key_free(cost_key *key) {
    free(key->model);
    key->model = NULL;
}

/* ---------------------------------------------------------------- files */

static const char *form_name(lckv_encoding form) {
    return form == LCKV_ENCODING_PLAN ? "plan" : "sequential";
}

static int read_step(const json_t *object, const char *path, lckv_step_cost *out) {
    const char *form;
    TRY(json_get_string(object, path, "encoding", "", &form));
    TRY(json_get_int(object, path, "rows", 0, &out->rows));
    TRY(json_get_int(object, path, "depth", -1, &out->depth));
    TRY(json_get_number(object, path, "seconds", NAN, &out->seconds));
    bool planned = !strcmp(form, "plan"), valid = planned || !strcmp(form, "sequential");
    out->encoding = planned ? LCKV_ENCODING_PLAN : LCKV_ENCODING_SEQUENTIAL;
    valid = valid && out->rows >= 1 && out->rows <= INT32_MAX && out->depth >= 0 && out->depth <= INT32_MAX;
    REQUIRE(valid && out->seconds > 0 && out->seconds < 1e9, LCKV_ERROR_FORMAT,
            "%s: expected steps with \"encoding\" (plan or sequential), \"rows\", \"depth\" and \"seconds\"", path);
    return LCKV_OK;
}

static int read_steps(const json_t *list, const char *path, cost_table *out) {
    size_t i;
    json_t *object;
    REQUIRE(json_is_array(list) && json_array_size(list) >= 1 && json_array_size(list) <= COST_MAX_STEPS,
            LCKV_ERROR_FORMAT, "%s: expected \"steps\" to be a list of 1 to %d steps", path, COST_MAX_STEPS);
    json_array_foreach(list, i, object) {
        lckv_step_cost step;
        TRY(read_step(object, path, &step));
        cost_table_add(out, step);
    }
    return LCKV_OK;
}

/* *same: whether a table of the file has this key. */
static int compare_key(const json_t *table, const char *path, const cost_key *key, bool *same) {
    const char *machine, *shape;
    TRY(json_get_string(table, path, "device", "", &machine));
    TRY(json_get_string(table, path, "model", "", &shape));
    *same = !strcmp(machine, key->device) && !strcmp(shape, key->model);
    return LCKV_OK;
}

/* *out: the tree of the file, and *tables its list; an empty list if there is no file. */
static int read_file(const char *path, json_t **out, json_t **tables) {
    *out = *tables = NULL;
    if (!path_exists(path)) {
        *out = json_pack("{s:[]}", "tables");
        REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a file of cost tables");
    } else {
        TRY(json_read_file(path, out));
    }
    *tables = json_object_get(*out, "tables");
    if (json_is_array(*tables)) return LCKV_OK;
    json_decref(*out);
    *out = NULL;
    return fail(LCKV_ERROR_FORMAT,
                "%s: expected an object with \"tables\", a list of cost tables; delete the file to "
                "measure again",
                path);
}

int cost_table_load(const char *path, const cost_key *key, cost_table *out) {
    json_t *tree, *tables, *table;
    size_t i;
    *out = (cost_table){0};
    TRY(read_file(path, &tree, &tables));
    int status = LCKV_OK;
    json_array_foreach(tables, i, table) {
        bool same = false;
        if (status >= 0) status = compare_key(table, path, key, &same); /* of all, as cost_table_store() */
        if (status >= 0 && same && !out->count) status = read_steps(json_object_get(table, "steps"), path, out);
    }
    json_decref(tree);
    if (status < 0) out->count = 0;
    return status;
}

/* NULL: out of memory. */
static json_t *table_json(const cost_key *key, const cost_table *t) {
    json_t *steps = json_array();
    for (int i = 0; i < t->count && steps; i++) {
        const lckv_step_cost *s = &t->steps[i];
        json_array_append_new(steps,
                              json_pack("{s:s, s:I, s:I, s:f}", "encoding", form_name(s->encoding), "rows",
                                        (json_int_t)s->rows, "depth", (json_int_t)s->depth, "seconds", s->seconds));
    }
    if (json_array_size(steps) < (size_t)t->count) {
        json_decref(steps);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:o}", "device", key->device, "model", key->model, "steps", steps);
}

static int write_tree(const char *path, const json_t *tree) {
    char *text;
    TRY(folder_create_parent(path));
    TRY(json_format(tree, 1, &text));
    int status = file_replace(path, text, strlen(text));
    free(text);
    return status;
}

int cost_table_store(const char *path, const cost_key *key, const cost_table *t) {
    json_t *tree, *tables;
    TRY(read_file(path, &tree, &tables));
    int status = LCKV_OK;
    for (size_t i = json_array_size(tables); i-- && status >= 0;) {
        bool same = false;
        status = compare_key(json_array_get(tables, i), path, key, &same);
        if (status >= 0 && same) json_array_remove(tables, i);
    }
    bool added = status >= 0 && json_array_append_new(tables, table_json(key, t)) == 0;
    if (status >= 0 && !added) status = fail(LCKV_ERROR_MEMORY, "no memory for a cost table");
    if (status >= 0) status = write_tree(path, tree);
    json_decref(tree);
    return status;
}
