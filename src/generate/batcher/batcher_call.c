/* One step of the batcher as a call of the decoder, see batcher_call.h: its input rows, and which output rows are
 * sampled and which are scored. */
#include "generate/batcher/batcher_call.h"

#include "model/decoder.h"
#include "model/ranks/rank_group.h"

#include <stdlib.h>
#include <string.h>

int batcher_call_make(batcher_call *s, int sequences) {
    size_t n = (size_t)sequences;
    *s = (batcher_call){.entries = calloc(n, sizeof *s->entries),
                        .owner = calloc(n, sizeof *s->owner),
                        .stepped = calloc(n, sizeof *s->stepped),
                        .choices = calloc(n, sizeof *s->choices),
                        .chooser = calloc(n, sizeof *s->chooser),
                        .ids = calloc(n, sizeof *s->ids),
                        .logprobs = calloc(n, sizeof *s->logprobs)};
    bool made = s->entries && s->owner && s->stepped && s->choices && s->chooser && s->ids && s->logprobs;
    REQUIRE(made, LCKV_ERROR_MEMORY, "no memory for a batch of %d sequences", sequences);
    return LCKV_OK;
}

void batcher_call_free(batcher_call *s) {
    free(s->entries);
    free(s->owner);
    free(s->stepped);
    free(s->choices);
    free(s->chooser);
    free(s->ids);
    free(s->logprobs);
    free(s->rows_of);
    free(s->scores);
    free(s->labels);
    free(s->best);
    free(s->nll);
    free(s->score_values);
}

static int take_rows(device *d, int64_t rows, dtype type, view *out) {
    d->memory.release(d, out->data);
    *out = (view){NULL, rows, 1, type};
    return d->memory.alloc(d, view_bytes(*out), &out->data);
}

/* Both calls use the same memory of the device, in order. */
static int reserve_on_device(batcher *b, int64_t rows) {
    device *d = b->model->device;
    if (rows <= b->index.rows) return LCKV_OK;
    TRY(d->memory.wait(d));
    TRY(take_rows(d, rows, DTYPE_I32, &b->index));
    TRY(take_rows(d, rows, DTYPE_I32, &b->labels));
    TRY(take_rows(d, rows, DTYPE_F32, &b->nll));
    TRY(take_rows(d, rows, DTYPE_I32, &b->best));
    if (b->one.data) return LCKV_OK;
    TRY(take_rows(d, 1, DTYPE_F32, &b->one));
    return d->memory.copy_in(d, b->one.data, &(float){1}, sizeof(float));
}

/* Makes room for `rows` rows that are sampled or scored. */
static int reserve_index(batcher *b, int64_t rows) {
    batcher_call *call = b->call;
    TRY(reserve_on_device(b, rows));
    if (rows <= call->index_capacity) return LCKV_OK;
    int32_t *rows_of = realloc(call->rows_of, (size_t)rows * sizeof *rows_of);
    if (rows_of) call->rows_of = rows_of;
    call_score *scores = realloc(call->scores, (size_t)rows * sizeof *scores);
    if (scores) call->scores = scores;
    int32_t *labels = realloc(call->labels, (size_t)rows * sizeof *labels);
    if (labels) call->labels = labels;
    int32_t *best = realloc(call->best, (size_t)rows * sizeof *best);
    if (best) call->best = best;
    float *nll = realloc(call->nll, (size_t)rows * sizeof *nll);
    if (nll) call->nll = nll;
    REQUIRE(rows_of && scores && labels && best && nll, LCKV_ERROR_MEMORY, "no memory to score %lld tokens",
            (long long)rows);
    call->index_capacity = (int)rows;
    return LCKV_OK;
}

static bool chooses(const sequence *s) {
    return s->cached + s->rows == sequence_length(s) && sequence_length(s) < s->max_count;
}

/* The prompt tokens that this step scores: those that follow its rows. The last row of a prompt usually has none. */
static int32_t count_scores(const sequence *s) {
    int64_t first = s->cached + 1 > s->first_scored ? s->cached + 1 : s->first_scored;
    int64_t known = s->prompt_count + (s->last_label >= 0), end = s->cached + s->rows + 1;
    if (!s->prompt_logprobs || s->cached >= s->prompt_count) return 0;
    if (end > known) end = known;
    return end > first ? (int32_t)(end - first) : 0;
}

/* Rows from the first scored token or sampled row on. */
static int32_t count_wanted(const sequence *s) {
    int32_t scored = count_scores(s);
    if (!scored) return chooses(s);
    int64_t first = s->cached + 1 > s->first_scored ? s->cached + 1 : s->first_scored;
    return (int32_t)(s->cached + s->rows + 1 - first);
}

/* Adds the tokens that a sequence scores. `hidden`: its first wanted row. */
static void add_scores(batcher_call *call, sequence *s, int32_t hidden) {
    int64_t first = s->cached + 1 > s->first_scored ? s->cached + 1 : s->first_scored;
    int32_t count = count_scores(s);
    if (count) s->scored_first = first;
    for (int32_t i = 0; i < count; i++) {
        bool in_prompt = first + i < s->prompt_count;
        call->rows_of[call->wanted + call->scored] = hidden + i;
        call->scores[call->scored++] = (call_score){.sequence = s, .id = in_prompt ? s->ids[first + i] : s->last_label};
    }
}

/* Samples whose prompt is completed by this step are sampled from the same row as their leader. */
static void add_followers(batcher_call *call, sequence *leader) {
    for (sequence *s = leader->next_sample; s; s = s->next_sample) {
        call->stepped[call->stepped_count++] = s;
        call->direct = false;
        if (!chooses(leader)) continue;
        call->chooser[call->wanted++] = s;
        call->top |= s->top_logprobs > 0;
    }
}

static bool ends_prompt(const sequence *s) {
    return s->cached < s->prompt_count && s->cached + s->rows == s->prompt_count;
}

static void add_entry(batcher_call *call, sequence *s) {
    int32_t wanted = count_wanted(s), scored = count_scores(s);
    if (chooses(s)) call->chooser[call->wanted++] = s;
    if (s->cached < s->prompt_count) {
        call->prompt_rows += s->rows;
        if (s->form == LCKV_ENCODING_SEQUENTIAL) call->exact_rows += s->rows;
    }
    call->top |= chooses(s) && s->top_logprobs > 0;
    call->score_top |= scored && s->top_logprobs > 0;
    call->direct = call->direct && !scored;
    call->to_score += scored;
    call->hidden_rows += wanted;
    call->stepped[call->stepped_count++] = s;
    call->ends_prompt |= ends_prompt(s);
    if (ends_prompt(s)) add_followers(call, s);
    call->owner[call->count] = s;
    call->entries[call->count++] = (batch_entry){.ids = s->ids + s->cached,
                                                 .rows = s->rows,
                                                 .wanted = wanted,
                                                 .length = s->cached < s->prompt_count ? s->prompt_count : 0,
                                                 .cache_id = s->cache_id,
                                                 .planned = s->planned,
                                                 .chosen = s->cached < s->count ? 0 : 1 + s->pending_row};
}

/* Planned entries come first in a batch. */
static void collect(batcher *b, bool planned) {
    for (int i = 0; i < b->running; i++) {
        sequence *s = b->queue[i];
        if (s->rows && s->planned == planned) add_entry(b->call, s);
    }
}

static void fill_choices(batcher_call *call) {
    for (int i = 0; i < call->wanted; i++) {
        sequence *s = call->chooser[i];
        call->choices[i] = (sampler_row){
            .how = s->how, .seen = s->seen, .bias = s->bias, .penalized = s->penalized, .owner = s->serial};
        call->choices[i].how.counter += (uint64_t)s->pending;
    }
}

void batcher_call_fill(batcher *b) {
    batcher_call *call = b->call;
    call->count = call->stepped_count = call->wanted = 0;
    call->scored = call->to_score = call->hidden_rows = 0;
    call->prompt_rows = call->exact_rows = 0;
    call->direct = true;
    call->top = call->score_top = call->ends_prompt = false;
    collect(b, true);
    collect(b, false);
    fill_choices(call);
}

/* Sends the indices of the rows that are sampled and scored. Not needed if every row is sampled once. */
static int send_index(batcher *b) {
    batcher_call *call = b->call;
    device *d = b->model->device;
    if (call->direct) return LCKV_OK;
    TRY(reserve_index(b, (int64_t)call->hidden_rows + call->wanted));
    int32_t hidden = 0;
    int choice = 0;
    for (int i = 0; i < call->count; i++) {
        hidden += call->entries[i].wanted;
        if (!chooses(call->owner[i])) continue;
        do {
            call->rows_of[choice] = hidden - 1;
        } while (++choice < call->wanted && sequence_waits_for_leader(call->chooser[choice]));
    }
    hidden = 0;
    for (int i = 0; i < call->count; i++) {
        add_scores(call, call->owner[i], hidden);
        hidden += call->entries[i].wanted;
    }
    TRY(d->memory.copy_in(d, b->index.data, call->rows_of, (size_t)(call->wanted + call->scored) * sizeof(int32_t)));
    if (!call->scored || call->score_top) return LCKV_OK;
    for (int i = 0; i < call->scored; i++) call->labels[i] = call->scores[i].id;
    return d->memory.copy_in(d, b->labels.data, call->labels, (size_t)call->scored * sizeof(int32_t));
}

/* If every row is sampled, padding rows of the batch are sampled, too. */
static int send_choices(batcher *b) {
    batcher_call *call = b->call;
    int padding = call->direct ? b->batch->wanted - call->wanted : 0;
    return sampler_send(b->sampler, call->choices, call->wanted, padding);
}

/* The host does not know a pending token yet, so its effect on tables must already be on the device. */
bool batcher_call_can_overlap(const batcher *b) {
    const batcher_call *call = b->call;
    for (int i = 0; i < call->wanted; i++) {
        const sequence *s = call->chooser[i];
        if (s->pending && !sampler_has_row(b->sampler, &call->choices[i], i, call->wanted)) return false;
    }
    return true;
}

bool batcher_call_has_results(const batcher_call *call) {
    return call->wanted || call->to_score || call->ends_prompt;
}

bool batcher_call_is_blocking(const batcher_call *call) {
    return call->top || call->score_top;
}

static int compute_samples(batcher *b) {
    const batcher_call *call = b->call;
    tensor *chosen = b->hidden;
    if (!call->wanted) return LCKV_OK;
    if (!call->direct) {
        view index = b->index;
        index.rows = call->wanted;
        TRY(graph_gather_rows(b->graph, b->hidden, index, &chosen));
    }
    TRY(decoder_logits(b->model, b->graph, chosen, &b->logits));
    return sampler_choose(b->sampler, b->logits->value);
}

static view first_rows(view v, int rows) {
    v.rows = rows;
    return v;
}

/* Log-probabilities of the scored tokens, without storing their logits. */
static int compute_scores(batcher *b) {
    int scored = b->call->scored;
    tensor *rows;
    if (!scored || b->call->score_top) return LCKV_OK;
    view index = view_rows(b->index, b->call->wanted, scored);
    struct op_linear_cross_entropy a = {.labels = first_rows(b->labels, scored),
                                        .scale = b->one,
                                        .nll = first_rows(b->nll, scored),
                                        .correct = first_rows(b->best, scored)};
    TRY(graph_gather_rows(b->graph, b->hidden, index, &rows));
    return graph_linear_cross_entropy(b->graph, rows, b->model->params->head, &a);
}

/* The device work of a step. It copies nothing between host and device, so that it can be recorded and replayed. */
static int compute(void *user) {
    batcher *b = user;
    TRY(decoder_forward(b->model, b->graph, b->batch, b->cache, &b->hidden));
    TRY(compute_samples(b));
    return compute_scores(b);
}

/* Steps that differ from an earlier step of the same shapes only in the content of the batch, and are replayed: those
 * with one row per sequence, and a prompt by itself, where the host would take longer than the device. With a tolerance
 * the host decides how many iterations of the plan run. */
static bool can_replay(const batcher *b) {
    const batch *rows = b->batch;
    bool alone = rows->sequences == 1, decides = rows->plan_rows && rows->tolerance > 0;
    return (rows->max_rows == 1 || alone) && !decides && !b->call->top && b->call->direct;
}

/* The recording of a step of these shapes, and its key. Decoding takes few shapes (batch.h). Prompts take many, and
 * must not displace them. */
static replay *find_replay(batcher *b, rank_pass *pass, replay_key *key) {
    const batch *rows = b->batch;
    *key = (replay_key){{rows->rows, rows->wanted, rows->wants_all, rows->padded_max_rows, rows->groups[0].max_past,
                         rows->groups[1].max_past, rows->moves, kv_cache_generation(b->cache),
                         sampler_layout(b->sampler), rows->plan_rows, rank_group_generation(b->model)}};
    pass->set = rows->max_rows > 1;
    replay_set *set = pass->set ? &b->prefill : &b->decoding;
    pass->replay = replay_set_find(set, key);
    return &set->replays[pass->replay];
}

static int compute_again(batcher *b, rank_pass *pass) {
    replay_key key;
    replay *r = find_replay(b, pass, &key);
    pass->action = replay_next(r, b->graph, &key);
    TRY(rank_group_begin(b->model, pass));
    return rank_group_end(b->model, pass, replay_run(r, b->graph, &key, compute, b));
}

static int compute_once(batcher *b, const rank_pass *pass) {
    TRY(rank_group_begin(b->model, pass));
    return rank_group_end(b->model, pass, compute(b));
}

/* top_logprobs of sampled token i from its logits. The token's own log-probability is then the same number as in the
 * list. */
static void take_top(batcher *b, int i, const float *logits) {
    sequence *s = b->call->chooser[i];
    lckv_logprob out[1 + LOGPROBS_MAX];
    logprobs_row row = {.id = b->call->ids[i], .top = s->top_logprobs, .out = out};
    if (!row.top) return;
    logprobs_of(logits, b->model->config->vocab_size, &row);
    b->call->logprobs[i] = out[0].logprob;
    memcpy(s->top, out + 1, (size_t)row.top * sizeof *out);
}

/* Reads top_logprobs of sampled tokens, several rows per copy. */
static int read_top(batcher *b) {
    device *d = b->model->device;
    int64_t vocab_size = b->model->config->vocab_size;
    for (int first = 0; first < b->call->wanted; first += b->top_rows) {
        int rows = b->call->wanted - first < b->top_rows ? b->call->wanted - first : b->top_rows;
        const float *logits = (const float *)b->logits->value.data + first * vocab_size;
        TRY(d->memory.copy_out(d, b->top_logits, logits, (size_t)(rows * vocab_size) * sizeof *logits));
        TRY(d->memory.wait(d));
#pragma omp parallel for num_threads(d->threads)
        for (int i = 0; i < rows; i++) take_top(b, first + i, b->top_logits + i * vocab_size);
    }
    return LCKV_OK;
}

/* Log-probabilities of the scored tokens and of the most probable ones, on the host. */
static int read_scores(batcher *b) {
    batcher_call *call = b->call;
    size_t values = 0;
    for (int i = 0; i < call->scored; i++) values += 1 + (size_t)call->scores[i].sequence->top_logprobs;
    lckv_logprob *top = realloc(call->score_values, values * sizeof *top);
    logprobs_row *rows = malloc((size_t)call->scored * sizeof *rows);
    if (top) call->score_values = top;
    int status = top && rows ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory to score %d tokens", call->scored);
    for (int i = 0; i < call->scored && status >= 0; i++) {
        call_score *score = &call->scores[i];
        int most = score->sequence->top_logprobs;
        score->top = top;
        rows[i] = (logprobs_row){.id = score->id, .top = most, .out = top};
        top += 1 + most;
    }
    if (status >= 0) status = logprobs_read(b->model, b->graph, b->hidden, b->index, call->wanted, rows, call->scored);
    free(rows);
    return status;
}

/* Copies the results of the scored tokens; they are valid after batcher_call_receive(). */
static int fetch_scores(batcher *b) {
    batcher_call *call = b->call;
    device *d = b->model->device;
    if (!call->scored || call->score_top) return LCKV_OK;
    TRY(d->memory.copy_out(d, call->nll, b->nll.data, (size_t)call->scored * sizeof *call->nll));
    return d->memory.copy_out(d, call->best, b->best.data, (size_t)call->scored * sizeof *call->best);
}

static bool has_prompts(const batcher_call *call) {
    for (int i = 0; i < call->count; i++)
        if (call->entries[i].rows > 1) return true;
    return false;
}

static int send(batcher *b) {
    device *d = b->model->device;
    batcher_call *call = b->call;
    b->batch = b->batches[has_prompts(call)];
    TRY(batch_fill(b->batch, b->cache, call->entries, call->count));
    TRY(send_index(b));
    if (call->wanted) TRY(send_choices(b));
    rank_pass pass = {
        .batch = b->batch, .cache = b->cache, .compute = b->options.compute, .replay = -1, .action = REPLAY_RUN};
    TRY(can_replay(b) ? compute_again(b, &pass) : compute_once(b, &pass));
    if (call->wanted) TRY(sampler_fetch(b->sampler, call->ids, call->logprobs));
    TRY(fetch_scores(b));
    if (batcher_call_is_blocking(call)) TRY(d->memory.wait(d));
    if (call->top) TRY(read_top(b));
    if (call->score_top) TRY(read_scores(b));
    return d->memory.mark(d, &call->mark);
}

int batcher_call_send(batcher *b) {
    b->model->device->invariant_rows = b->options.batch_invariant;
    int status = send(b);
    b->model->device->invariant_rows = false;
    if (status < 0)
        kv_cache_rollback(b->cache);
    else
        kv_cache_commit(b->cache);
    return status;
}

int batcher_call_receive(batcher *b, batcher_call *call) {
    device *d = b->model->device;
    TRY(d->memory.reach(d, call->mark));
    return rank_group_check(b->model);
}

int batcher_call_take_scores(const batcher_call *call) {
    for (int i = 0; i < call->scored; i++) {
        const call_score *score = &call->scores[i];
        const lckv_logprob own = {score->id, -call->nll[i]};
        if (!score->sequence) continue;
        bool best = !score->top && call->best[i];
        TRY(sequence_add_scored(score->sequence, score->top ? score->top : &own, best));
    }
    return LCKV_OK;
}

void batcher_call_drop_sequence(batcher_call *call, const sequence *s) {
    int stepped = 0;
    for (int i = 0; i < call->scored; i++)
        if (call->scores[i].sequence == s) call->scores[i].sequence = NULL;
    for (int i = 0; i < call->wanted; i++)
        if (call->chooser[i] == s) call->chooser[i] = NULL;
    for (int i = 0; i < call->stepped_count; i++)
        if (call->stepped[i] != s) call->stepped[stepped++] = call->stepped[i];
    call->stepped_count = stepped;
}
