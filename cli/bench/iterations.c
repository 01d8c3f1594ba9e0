/* lckv bench --measure iterations: error of the parallel form by number of iterations: the loss on a text, and the KL
 * divergence of the next-token distribution from that of the sequential form, in nats per token. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/open_model.h"
#include "cli/output/output.h"
#include "cli/prompts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const table_column COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "form", .title = "iterations"},
    {.key = "loss", .title = "loss", .decimals = 4},
    {.key = "more_than_exact", .title = "loss - exact", .decimals = 4},
    {.key = "kl", .title = "KL from exact", .decimals = 6},
    {0},
};

/* A text in blocks, and the model's results on it. */
typedef struct measurement {
    const bench_options *o;
    const char *name; /* folder or ORG/NAME of the model */
    int32_t *ids;     /* [blocks * o->block_size] */
    int64_t blocks;   /* number of blocks */
    int64_t vocab_size;
    int loops;         /* number of loops of the model */
    float *exact;      /* [blocks * o->block_size, vocab_size] logits of the sequential form */
    float *logits;     /* [blocks * o->block_size, vocab_size] logits of the current number of iterations */
    double exact_loss; /* mean loss of the sequential form, nats per token */
    json_t *rows;
} measurement;

/* ---------------------------------------------------------------- one form */

/* Shows the progress. The sequential form comes first and takes about as long as all other forms together. */
static void show_block(const measurement *r, int64_t iterations, int64_t block) {
    int64_t last = r->loops ? r->o->max_iterations : 0;
    double done = (double)block / (double)r->blocks;
    double fraction = iterations ? 0.5 + 0.5 * ((double)(iterations - 1) + done) / (double)last : done / (last ? 2 : 1);
    char form[48] = "sequential";
    if (iterations) human_quantity(iterations, "iteration", form);
    progress(fraction, "%s: %s, block %lld of %lld", r->name, form, (long long)block + 1, (long long)r->blocks);
}

/* Computes the mean loss of the text with that many iterations; 0: in the sequential form. Stores the logits in
 * `logits`. */
static int score_text(const measurement *r, lckv_model *model, int64_t iterations, float *logits, double *loss) {
    int64_t size = r->o->block_size;
    float *logprobs = need(malloc((size_t)size * sizeof *logprobs));
    int status = LCKV_OK;
    *loss = 0;
    for (int64_t b = 0; b < r->blocks && status >= 0; b++) {
        lckv_score_options score = lckv_score_defaults();
        score.encoding = iterations ? LCKV_ENCODING_PLAN : LCKV_ENCODING_SEQUENTIAL;
        score.encoding_iterations = (int)iterations;
        show_block(r, iterations, b);
        score.bf16 = r->o->bf16;
        score.kv_dtype = kv_dtype_name(r->o->kv_dtype);
        score.logits = logits + b * size * r->vocab_size;
        status = interrupted() ? LCKV_ERROR_INTERRUPTED : lckv_score(model, r->ids + b * size, size, &score, logprobs);
        for (int64_t i = 0; i + 1 < size; i++) *loss -= (double)logprobs[i] / (double)(r->blocks * (size - 1));
    }
    free(logprobs);
    return status < 0 ? library_error("bench", status) : EXIT_FINE;
}

/* ---------------------------------------------------------------- all iterations */

static void add_row(const measurement *r, int64_t iterations, double loss, double kl) {
    char name[64], form[32] = "exact";
    if (iterations) snprintf(form, sizeof form, "%lld", (long long)iterations);
    json_t *row = json_pack("{s:s, s:s, s:f, s:f, s:f}", "model", bench_name(r->name, name), "form", form, "loss", loss,
                            "more_than_exact", loss - r->exact_loss, "kl", kl);
    if (iterations) json_object_set_new(row, "iterations", json_integer(iterations));
    json_array_append_new(r->rows, row);
}

/* Encodes the text; keeps at most --num_blocks whole blocks. */
static int read_text(measurement *r, opened_model *m) {
    char tokens[48];
    prompt_list texts = {0};
    int64_t size = r->o->block_size;
    int code = prompts_add_file("bench", &texts, r->o->file, false);
    if (!code) code = prompts_encode("bench", &texts, m->tokenizer, "", true);
    if (!code && texts.items[0].count < size)
        code = usage_error("bench", "'%s' has %s, expected at least --block_size (%lld)", r->o->file,
                           human_quantity(texts.items[0].count, "token", tokens), (long long)size);
    if (!code) {
        r->blocks = texts.items[0].count / size;
        if (r->blocks > r->o->num_blocks) r->blocks = r->o->num_blocks;
        r->ids = need(malloc((size_t)(r->blocks * size) * sizeof *r->ids));
        memcpy(r->ids, texts.items[0].ids, (size_t)(r->blocks * size) * sizeof *r->ids);
    }
    prompts_free(&texts);
    return code;
}

static int score_sequentially(measurement *r, opened_model *m) {
    lckv_config_info info = lckv_config_describe(lckv_model_config(m->model));
    r->vocab_size = info.vocab_size;
    r->loops = info.loops;
    int code = read_text(r, m);
    if (code) return code;
    size_t values = (size_t)(r->blocks * r->o->block_size * r->vocab_size);
    r->exact = need(malloc(values * sizeof *r->exact));
    r->logits = need(malloc(values * sizeof *r->logits));
    return score_text(r, m->model, 0, r->exact, &r->exact_loss);
}

static int score_with_iterations(measurement *r, opened_model *m, int64_t iterations) {
    double loss;
    int code = score_text(r, m->model, iterations, r->logits, &loss);
    int64_t tokens = r->blocks * r->o->block_size;
    if (!code) add_row(r, iterations, loss, lckv_kl_divergence(r->exact, r->logits, tokens, r->vocab_size));
    return code;
}

/* A model without loops has only the sequential form. */
static int measure_model(const bench_options *o, const char *name, json_t *rows) {
    measurement r = {.o = o, .name = name, .rows = rows};
    opened_model m = {0};
    const struct model_flags flags = {.name = name,
                                      .config_overrides = o->overrides,
                                      .no_loop_start = o->no_loop_start,
                                      .device = o->device,
                                      .torch_dtype = o->torch_dtype,
                                      .weight_dtype = o->weight_dtype,
                                      .threads = o->threads};
    int code = open_model("bench", &flags, true, &m);
    if (!code) code = score_sequentially(&r, &m);
    for (int64_t iterations = 1; !code && r.loops && iterations <= o->max_iterations; iterations++)
        code = score_with_iterations(&r, &m, iterations);
    progress_end();
    if (!code) add_row(&r, 0, r.exact_loss, 0);
    close_model(&m);
    free(r.ids);
    free(r.exact);
    free(r.logits);
    return code;
}

/* ---------------------------------------------------------------- the chart */

/* Rows are sorted by model, then by iterations. The last row of a model is the exact form, which is not drawn. */
static char *draw(const bench_options *o, const json_t *rows) {
    chart_point *points = need(calloc(json_array_size(rows), sizeof *points));
    int *point_counts = need(calloc((size_t)o->models.count, sizeof *point_counts));
    int model = 0, count = 0;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        const json_t *iterations = json_object_get(row, "iterations");
        if (!iterations) {
            model++;
            continue;
        }
        points[count].x = json_number_value(iterations);
        points[count].y = json_number_value(json_object_get(row, "kl"));
        point_counts[model]++;
        count++;
    }
    const chart_lines chart = {.title = "KL divergence from the exact form, by iterations",
                               .x_title = "iterations",
                               .y_title = "KL, nats per token",
                               .log_y = true,
                               .level = NAN};
    char *svg = bench_lines(&o->models, point_counts, points, chart);
    free(point_counts);
    free(points);
    return svg;
}

int bench_iterations(const bench_options *o, bench_result *out) {
    int code = EXIT_FINE;
    for (int i = 0; i < o->models.count && !code; i++) code = measure_model(o, o->models.items[i], out->rows);
    out->columns = COLUMNS;
    if (!code && o->svg) out->svg = draw(o, out->rows);
    return code;
}
