/* lckv_generate(): submits prompts as requests to an engine and collects the generated sequences in order. */
#include "base/log.h"
#include "base/options.h"
#include "generate/engine.h"
#include "generate/sampling_parameters.h"

#include <stdlib.h>

enum { AUTOMATIC_ABOVE = 128 }; /* with more sequences, the engine chooses how many run at the same time */

#define DEFAULT(name, KIND, in_request, in_generate, ...) .name = in_generate,

void lckv_generate_options_init(lckv_generate_options *options, size_t struct_size) {
    const lckv_generate_options defaults = {.length = 20,
                                            .seed = 42,
                                            .num_return_sequences = 1,
                                            .encoding = LCKV_ENCODING_AUTO,
                                            SAMPLING_PARAMETERS(DEFAULT)};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

typedef struct generate_run {
    lckv_model *model;
    lckv_tokenizer *tokenizer; /* may be NULL */
    const lckv_generate_options *options;
    const lckv_prompt *prompts;
    int prompt_count, submitted; /* prompt i is request i + 1 */
    lckv_engine *engine;
    lckv_generation *result;
    bool received; /* something came in this step */
    int status;    /* of what the callback does */
} generate_run;

/* ---------------------------------------------------------------- requests */

/* Maximum length of a sequence. Positions beyond the model's give text that looks valid but is not, so generation stops
 * before them. With a sink cache, positions never exceed the window. */
static int64_t max_count_of(const generate_run *run, int prompt) {
    const lckv_generate_options *o = run->options;
    int64_t positions = run->model->config->positions, count = run->prompts[prompt].count;
    int64_t max_count = count <= INT64_MAX - o->length ? count + o->length : INT64_MAX;
    return o->window_length || max_count <= positions ? max_count : positions;
}

static int check_limit(const generate_run *run, int prompt) {
    const lckv_generate_options *o = run->options;
    int64_t positions = run->model->config->positions, prompt_count = run->prompts[prompt].count;
    if (max_count_of(run, prompt) - prompt_count == o->length || o->window_length) return LCKV_OK;
    REQUIRE(
        prompt_count < positions, LCKV_ERROR_ARGUMENT,
        "prompt %d has %lld token%s, but the model has %lld positions (max_position_embeddings): shorten the prompt, "
        "use a sink cache, or override max_position_embeddings",
        prompt, (long long)prompt_count, plural(prompt_count), (long long)positions);
    log_message(
        LCKV_LOG_WARNING,
        "prompt %d with %lld new token%s exceeds the model's %lld positions (max_position_embeddings): generation "
        "stops there; use a sink cache to continue",
        prompt, (long long)o->length, plural(o->length), (long long)positions);
    return LCKV_OK;
}

#define COPY(name, ...) .name = o->name,

static lckv_request make_request(const generate_run *run, int prompt) {
    const lckv_generate_options *o = run->options;
    return (lckv_request){.struct_size = sizeof(lckv_request),
                          .prompt = run->prompts[prompt],
                          .n = o->num_return_sequences,
                          .max_new_tokens = max_count_of(run, prompt) - run->prompts[prompt].count,
                          .seed = o->seed,
                          .stream = (uint64_t)prompt,
                          .ignore_eos = o->ignore_eos,
                          .stop = o->stop,
                          .stop_count = o->stop_count,
                          .encoding = o->encoding,
                          SAMPLING_PARAMETERS(COPY)};
}

/* Checks all prompts. *longest: maximum length of the longest sequence. */
static int check_all(const generate_run *run, int64_t *longest) {
    const lckv_generate_options *o = run->options;
    REQUIRE(run->prompt_count >= 1, LCKV_ERROR_ARGUMENT, "expected at least one prompt");
    REQUIRE(o->length >= 1, LCKV_ERROR_ARGUMENT, "length should be at least 1, found %lld", (long long)o->length);
    REQUIRE(o->num_return_sequences >= 1, LCKV_ERROR_ARGUMENT, "num_return_sequences should be at least 1, found %d",
            o->num_return_sequences);
    int64_t sequences = (int64_t)run->prompt_count * o->num_return_sequences;
    REQUIRE(sequences <= 1 << 20, LCKV_ERROR_ARGUMENT, "expected at most 2^20 sequences, found %lld",
            (long long)sequences);
    *longest = 0;
    for (int i = 0; i < run->prompt_count; i++) {
        TRY(check_limit(run, i));
        lckv_request request_options = make_request(run, i);
        TRY(request_check(&request_options, run->tokenizer, run->model->config->vocab_size));
        if (max_count_of(run, i) > *longest) *longest = max_count_of(run, i);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- results */

static int store_sequence(generate_run *run, const request_sample *s, lckv_sequence *out) {
    const sequence *q = s->sequence;
    out->finish = q->finish;
    out->encoding = q->form;
    out->count = q->count - q->prompt_count;
    out->ids = malloc((size_t)out->count * sizeof *out->ids);
    REQUIRE(out->ids, LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)out->count);
    for (int64_t i = 0; i < out->count; i++) out->ids[i] = q->ids[q->prompt_count + i];
    if (!run->tokenizer) return LCKV_OK;
    return text_stream_decode(&s->text, out->ids, out->count, &out->text, &out->text_bytes);
}

static int handle_event(generate_run *run, const lckv_event *event) {
    const lckv_generate_options *o = run->options;
    int prompt = (int)event->request - 1;
    REQUIRE(event->token >= 0, LCKV_ERROR_NUMERIC,
            "the logits after %lld token%s of prompt %d are not finite: no token can be chosen",
            (long long)(event->prompt_tokens + event->new_tokens), plural(event->prompt_tokens + event->new_tokens),
            prompt);
    lckv_token token = {.prompt = prompt,
                        .sample = event->sample,
                        .id = event->token,
                        .logprob = event->logprob,
                        .text = event->text,
                        .text_bytes = event->text_bytes,
                        .finish = event->finish};
    run->received = true;
    if (event->finish != LCKV_FINISH_NONE) {
        const request *r = engine_request(run->engine, event->request);
        lckv_sequence *out = &run->result->sequences[prompt * o->num_return_sequences + event->sample];
        TRY(store_sequence(run, &r->samples[event->sample], out));
    }
    REQUIRE(!o->callback || o->callback(o->user, &token), LCKV_ERROR_INTERRUPTED, "generation was stopped");
    return LCKV_OK;
}

static void on_event(void *user, const lckv_event *event) {
    generate_run *run = user;
    if (run->status >= 0) run->status = handle_event(run, event);
}

/* ---------------------------------------------------------------- running */

static int start(generate_run *run, int64_t longest) {
    const lckv_generate_options *o = run->options;
    int64_t sequences = (int64_t)run->prompt_count * o->num_return_sequences, samples = o->num_return_sequences;
    lckv_engine_options e = lckv_engine_defaults();
    if (sequences <= AUTOMATIC_ABOVE || samples > AUTOMATIC_ABOVE)
        e.max_num_seqs = (int)(samples > AUTOMATIC_ABOVE ? samples : sequences);
    e.max_model_len = longest;
    e.window_length = o->window_length;
    e.num_sink_tokens = o->num_sink_tokens;
    e.bf16 = o->bf16;
    e.kv_dtype = o->kv_dtype;
    e.encoding_iterations = o->encoding_iterations;
    e.encoding_tolerance = o->encoding_tolerance;
    e.cost_table = o->cost_table;
    e.callback = on_event;
    e.user = run;
    return lckv_engine_create(run->model, run->tokenizer, &e, &run->engine);
}

static int make_result(generate_run *run) {
    int samples = run->options->num_return_sequences, count = run->prompt_count * samples;
    run->result = calloc(1, sizeof *run->result);
    REQUIRE(run->result, LCKV_ERROR_MEMORY, "no memory for the result");
    run->result->sequences = calloc((size_t)count, sizeof *run->result->sequences);
    REQUIRE(run->result->sequences, LCKV_ERROR_MEMORY, "no memory for %d sequences", count);
    run->result->count = count;
    for (int i = 0; i < count; i++)
        run->result->sequences[i] = (lckv_sequence){.prompt = i / samples, .sample = i % samples};
    return LCKV_OK;
}

/* Submits as many prompts as the queue takes; the others follow when there is room. */
static int submit(generate_run *run) {
    while (run->submitted < run->prompt_count) {
        uint64_t id;
        lckv_request request_options = make_request(run, run->submitted);
        int status = lckv_engine_submit(run->engine, &request_options, &id);
        if (status == LCKV_ERROR_BUSY) break;
        TRY(status);
        run->submitted++;
    }
    return LCKV_OK;
}

static void add_timing(generate_run *run) {
    lckv_engine_stats t = lckv_engine_describe(run->engine);
    lckv_generation *g = run->result;
    g->prompt_tokens = t.prompt_tokens;
    g->prompt_seconds = t.prompt_seconds;
    g->decode_tokens = t.decode_tokens;
    g->decode_seconds = t.decode_seconds;
    g->decode_bytes = t.decode_bytes;
}

static int run_all(generate_run *run) {
    const lckv_generate_options *o = run->options;
    int64_t longest;
    TRY(engine_check_tokenizer(run->model, run->tokenizer));
    TRY(check_all(run, &longest));
    TRY(start(run, longest));
    TRY(make_result(run));
    while (run->submitted < run->prompt_count || !lckv_engine_idle(run->engine)) {
        TRY(submit(run));
        run->received = false;
        TRY(lckv_engine_step(run->engine));
        TRY(run->status);
        bool go_on = run->received || !o->callback || o->callback(o->user, NULL);
        REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "generation was stopped");
    }
    add_timing(run);
    return LCKV_OK;
}

int lckv_generate(lckv_model *m, lckv_tokenizer *tokenizer, const lckv_prompt *prompts, int count,
                  const lckv_generate_options *given, lckv_generation **out) {
    lckv_generate_options options;
    generate_run run = {
        .model = m, .tokenizer = tokenizer, .options = &options, .prompts = prompts, .prompt_count = count};
    *out = NULL;
    TRY(OPTIONS_TAKE(&options, given, lckv_generate_defaults));
    int status = run_all(&run);
    lckv_engine_free(run.engine);
    if (status >= 0)
        *out = run.result;
    else
        lckv_generation_free(run.result);
    return status < 0 ? status : LCKV_OK;
}

void lckv_generation_free(lckv_generation *g) {
    if (!g) return;
    for (int i = 0; g->sequences && i < g->count; i++) {
        free(g->sequences[i].ids);
        free(g->sequences[i].text);
    }
    free(g->sequences);
    free(g);
}
