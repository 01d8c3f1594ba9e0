/* lckv_score(), see lckv.h. Logits are computed directly into the buffer of the file that is being written. */
#include "base/log.h"
#include "base/options.h"
#include "generate/dump.h"
#include "generate/score/score.h"
#include "io/tensors/safetensors.h"
#include "model/ranks/rank_group.h"

void lckv_score_options_init(lckv_score_options *options, size_t struct_size) {
    const lckv_score_options defaults = {.encoding = LCKV_ENCODING_AUTO};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

typedef struct score_run {
    const model *model;
    const int32_t *ids;
    int64_t count;
    score_options options;
    float *logprobs;
} score_run;

static int score_all(void *user, int index, element_range range, void *bytes) {
    const score_run *run = user;
    (void)index, (void)range; /* there is one tensor, which is whole */
    return score_ids(run->model, run->ids, run->count, &run->options, run->logprobs, bytes);
}

static int write_logits(const char *path, score_run *run) {
    safetensors_item logits = {.name = "logits",
                               .type = DTYPE_F32,
                               .shape = {run->count, run->model->config->vocab_size},
                               .dimensions = 2,
                               .whole = true};
    new_file file;
    TRY(file_begin(path, &file));
    int status = safetensors_write(&file, &logits, 1, score_all, run);
    if (status >= 0)
        status = file_commit(&file);
    else
        file_abandon(&file);
    return status;
}

static int score(const lckv_score_options *options, score_run *run) {
    int64_t positions = run->model->config->positions;
    if (!options->window_length && run->count > positions)
        log_message(LCKV_LOG_WARNING,
                    "the text has %lld tokens, more than the model's %lld positions (max_position_embeddings)",
                    (long long)run->count, (long long)positions);
    REQUIRE(!options->logits_file || !options->logits, LCKV_ERROR_ARGUMENT,
            "expected either logits_file or logits, found both");
    if (options->logits_file) return write_logits(options->logits_file, run);
    return score_all(run, 0, (element_range){0}, options->logits);
}

static int score_and_dump(const lckv_score_options *options, score_run *run) {
    dump *d;
    TRY(rank_group_refuse(run->model, "dump"));
    REQUIRE(options->dump_file, LCKV_ERROR_ARGUMENT, "dump requires dump_file");
    TRY(dump_create(run->model->device, options->dump, options->dump_iterations, run->count, &d));
    run->options.watch = dump_watch(d);
    int status = score(options, run);
    if (status >= 0) status = dump_write(d, options->dump_file);
    dump_free(d);
    return status;
}

int lckv_score(lckv_model *m, const int32_t *ids, int64_t count, const lckv_score_options *given, float *logprobs) {
    lckv_score_options taken;
    const lckv_score_options *options = &taken;
    TRY(OPTIONS_TAKE(&taken, given, lckv_score_defaults));
    dtype compute = options->bf16 ? DTYPE_BF16 : DTYPE_F32, kv_type;
    TRY(kv_cache_choose_type(m->device, compute, options->kv_dtype, &kv_type));
    score_run run = {.model = m,
                     .ids = ids,
                     .count = count,
                     .options = {.compute = compute,
                                 .kv_type = kv_type,
                                 .encoding = options->encoding,
                                 .iterations = options->encoding_iterations,
                                 .tolerance = options->encoding_tolerance,
                                 .window_length = options->window_length,
                                 .sinks = options->window_length ? options->num_sink_tokens : 0,
                                 .top = options->top_logprobs,
                                 .top_ids = options->top_ids,
                                 .top_values = options->top_values,
                                 .go_on = options->go_on,
                                 .user = options->user},
                     .logprobs = logprobs};
    return options->dump ? score_and_dump(options, &run) : score(options, &run);
}
