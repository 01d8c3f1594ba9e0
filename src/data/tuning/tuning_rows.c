/* Encoding instruction data, see tuning_rows.h. */
#include "data/tuning/tuning_rows.h"

#include "base/log.h"
#include "data/documents/document_reader.h"
#include "data/tuning/tuning_text.h"

#include <stdlib.h>
#include <string.h>

/* An encoded row. */
typedef struct encoded {
    int32_t *ids;
    size_t count;
    bool *learned; /* [count] */
} encoded;

static void free_encoded(encoded *e) {
    lckv_free(e->ids);
    free(e->learned);
}

/* ---------------------------------------------------------------- trained tokens */

static bool begins_with(const encoded *e, const int32_t *ids, size_t count) {
    return count <= e->count && !memcmp(e->ids, ids, count * sizeof *ids);
}

/* Excludes the prompt from training. Its tokens are counted by encoding it alone; as in trl, the count is used even if
 * the tokens at its end differ in the whole row. */
static int pass_over_prompt(const tuning_options *o, const tuning_text *t, encoded *e, tuning_rows *out) {
    int32_t *ids;
    size_t count;
    if (!t->prompt || o->how->completion_only_loss == LCKV_COMPLETION_LOSS_NO) return LCKV_OK;
    TRY(lckv_tokenizer_encode(o->tokenizer, t->prompt, t->prompt_bytes, !t->rendered, &ids, &count));
    out->mismatched += !begins_with(e, ids, count);
    for (size_t i = 0; i < count && i < e->count; i++) e->learned[i] = false;
    lckv_free(ids);
    return LCKV_OK;
}

static int bytes_of(const tuning_options *o, const int32_t *ids, size_t count, size_t *bytes) {
    char *text;
    TRY(lckv_tokenizer_decode(o->tokenizer, ids, count, false, &text, bytes));
    lckv_free(text);
    return LCKV_OK;
}

/* Advances *token, up to which the row has the same tokens as ids[count], until the row's tokens decode to at least as
 * many bytes. Both are decoded from the previous token on, because a decoder may strip a leading space. */
static int go_past(const tuning_options *o, const encoded *e, const int32_t *ids, size_t count, size_t *token,
                   bool *inside) {
    size_t wanted, here = 0, first = *token ? *token - 1 : 0;
    TRY(bytes_of(o, ids + first, count - first, &wanted));
    TRY(bytes_of(o, e->ids + first, *token - first, &here));
    while (here < wanted && *token < e->count) TRY(bytes_of(o, e->ids + first, ++*token - first, &here));
    *inside = here > wanted;
    *token -= *inside;
    return LCKV_OK;
}

/* The token that contains byte `at` of the text, or starts there; *inside: it starts before. The text up to `at` is
 * encoded by itself; the tokens that it has in common with the whole row end before `at`. */
static int token_at(const tuning_options *o, const tuning_text *t, const encoded *e, size_t at, size_t *token,
                    bool *inside) {
    int32_t *ids;
    size_t count;
    TRY(lckv_tokenizer_encode(o->tokenizer, t->whole, at, false, &ids, &count));
    for (*token = 0; *token < count && *token < e->count && ids[*token] == e->ids[*token];) ++*token;
    int status = go_past(o, e, ids, count, token, inside);
    lckv_free(ids);
    return status;
}

/* As transformers' return_assistant_tokens_mask: trains on tokens that contain a character of an answer. (If the last
 * character of an answer is several tokens, transformers includes only the first of them; lckv includes all.) */
static int keep_answers(const tuning_options *o, const tuning_text *t, encoded *e) {
    bool *answer = calloc(e->count + 1, sizeof *answer);
    REQUIRE(answer, LCKV_ERROR_MEMORY, "no memory for a row of %zu tokens", e->count);
    int status = LCKV_OK;
    for (int i = 0; i < t->answer_count && status >= 0; i++) {
        size_t first, end = 0;
        bool across, inside = false;
        if (t->answers[i].first == t->answers[i].end) continue;
        status = token_at(o, t, e, t->answers[i].first, &first, &across);
        if (status >= 0) status = token_at(o, t, e, t->answers[i].end, &end, &inside);
        for (size_t k = first; status >= 0 && k < end + inside && k < e->count; k++) answer[k] = true;
    }
    for (size_t k = 0; k < e->count; k++) e->learned[k] = e->learned[k] && answer[k];
    free(answer);
    return status;
}

static int choose_learned(const tuning_options *o, const tuning_text *t, const char *where, encoded *e,
                          tuning_rows *out) {
    memset(e->learned, true, e->count * sizeof *e->learned);
    TRY(pass_over_prompt(o, t, e, out));
    if (!o->how->assistant_only_loss) return LCKV_OK;
    TRY(keep_answers(o, t, e));
    for (size_t i = 0; i < e->count; i++)
        if (e->learned[i]) return LCKV_OK;
    return fail(LCKV_ERROR_FORMAT, "%s: assistant_only_loss: the template marks no answer in the row", where);
}

/* ---------------------------------------------------------------- list of rows */

static int reserve(tuning_rows *r) {
    if (r->marked < r->ids.capacity) {
        bool *learned = realloc(r->learned, r->ids.capacity * sizeof *learned);
        REQUIRE(learned, LCKV_ERROR_MEMORY, "no memory for %zu tokens", r->ids.capacity);
        r->learned = learned;
        r->marked = r->ids.capacity;
    }
    if (r->count < r->room) return LCKV_OK;
    int64_t room = r->room ? 2 * r->room : 1024;
    int64_t *ends = realloc(r->ends, (size_t)room * sizeof *ends);
    REQUIRE(ends, LCKV_ERROR_MEMORY, "no memory for %lld rows", (long long)room);
    r->ends = ends;
    r->room = room;
    return LCKV_OK;
}

/* Nothing predicts the first token of a row. */
static bool teaches(const bool *learned, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (learned[i]) return true;
    return false;
}

/* Truncates a row that is too long, as trl does, or drops it. */
static int add(const tuning_options *o, const encoded *e, tuning_rows *r) {
    bool is_long = e->count > (size_t)o->longest;
    size_t begin = r->ids.count, count = is_long ? (size_t)o->longest : e->count;
    if (!e->count) r->empty++;
    if (is_long && o->how->drop_long) r->dropped++;
    if (!e->count || (is_long && o->how->drop_long)) return LCKV_OK;
    r->cut += is_long;
    r->unlearned += !teaches(e->learned, count);
    TRY(id_list_append(&r->ids, e->ids, count));
    TRY(reserve(r));
    memcpy(r->learned + begin, e->learned, count * sizeof *e->learned);
    r->ends[r->count++] = (int64_t)r->ids.count;
    return LCKV_OK;
}

/* Templates may write a line break after EOS, which can be several tokens. */
static bool has_eos_at_end(const lckv_tokenizer *t, const encoded *e) {
    int32_t eos = lckv_tokenizer_eos_id(t);
    for (size_t back = 1; back <= 3 && back <= e->count; back++)
        if (e->ids[e->count - back] == eos) return true;
    return false;
}

static int encode(const tuning_options *o, const tuning_text *t, const char *where, tuning_rows *out) {
    encoded e = {0};
    TRY(lckv_tokenizer_encode(o->tokenizer, t->whole, t->bytes, !t->rendered, &e.ids, &e.count));
    e.learned = malloc((e.count + 1) * sizeof *e.learned);
    int status = e.learned ? choose_learned(o, t, where, &e, out)
                           : fail(LCKV_ERROR_MEMORY, "no memory for a row of %zu tokens", e.count);
    out->alpaca += t->alpaca;
    if (*t->foreign_role && !out->foreign++) memcpy(out->foreign_role, t->foreign_role, sizeof out->foreign_role);
    out->endless += t->rendered && !has_eos_at_end(o->tokenizer, &e);
    if (status >= 0) status = add(o, &e, out);
    free_encoded(&e);
    return status;
}

/* ---------------------------------------------------------------- reading */

static int add_document(const tuning_options *o, const char *eos, const document *d, tuning_rows *out) {
    char where[512];
    tuning_text text;
    snprintf(where, sizeof where, "%.480s:%lld", d->file, (long long)d->line);
    const tuning_source source = {o->how, o->chat_template, eos, where};
    REQUIRE(d->row || d->text, LCKV_ERROR_FORMAT, "%s: expected rows of text or messages, found token ids", where);
    TRY(d->row ? tuning_text_of_row(&source, d->row, &text) : tuning_text_of_words(&source, d->text, d->bytes, &text));
    int status = encode(o, &text, where, out);
    tuning_text_free(&text);
    return status;
}

enum { ROWS_PER_REPORT = 256 };

static int read_all(const tuning_options *o, const char *eos, document_reader *reader, tuning_rows *out) {
    document d;
    bool found;
    for (int64_t i = 1;; i++) {
        TRY(document_reader_next(reader, &d, &found));
        if (!found) return LCKV_OK;
        TRY(add_document(o, eos, &d, out));
        if (i % ROWS_PER_REPORT == 0 && o->go_on && !o->go_on(o->user, document_reader_fraction(reader)))
            return fail(LCKV_ERROR_INTERRUPTED, "stopped while reading '%s'", o->paths[0]);
    }
}

/* Logs one warning per kind of problem. */
static void warn_of_rows(const tuning_options *o, const tuning_rows *r) {
    long long longest = o->longest;
    if (r->cut)
        log_message(LCKV_LOG_WARNING, "truncated %lld row%s to %lld tokens", (long long)r->cut, plural(r->cut),
                    longest);
    if (r->unlearned)
        log_message(
            LCKV_LOG_WARNING,
            "%lld of %lld rows have no token to train on, because their answer is empty or truncated: the model "
            "learns nothing from them",
            (long long)r->unlearned, (long long)r->count);
    if (r->dropped)
        log_message(LCKV_LOG_WARNING, "dropped %lld row%s of more than %lld tokens", (long long)r->dropped,
                    plural(r->dropped), longest);
    if (r->empty)
        log_message(LCKV_LOG_WARNING, "dropped %lld row%s without tokens", (long long)r->empty, plural(r->empty));
    if (r->mismatched)
        log_message(
            LCKV_LOG_WARNING,
            "in %lld row%s, the tokens of the prompt differ from the first tokens of prompt and completion together; "
            "lckv excludes the same number of tokens from training",
            (long long)r->mismatched, plural(r->mismatched));
    if (r->foreign)
        log_message(
            LCKV_LOG_WARNING,
            "roles such as '%s' occur in %lld conversation%s; lckv passes them to the chat template unchanged, as trl "
            "does; check that the template supports them, or rename them to user and assistant in the data",
            r->foreign_role, (long long)r->foreign, plural(r->foreign));
    if (r->endless)
        log_message(
            LCKV_LOG_WARNING,
            "the chat template does not end %lld conversation%s with EOS: the model will not learn to stop at EOS",
            (long long)r->endless, plural(r->endless));
}

int tuning_rows_read(const tuning_options *o, tuning_rows *out) {
    document_reader *reader;
    const document_options documents = {.whole_rows = true, .text_column = o->how->dataset_text_field, .id_bytes = 2};
    int32_t eos = lckv_tokenizer_eos_id(o->tokenizer);
    *out = (tuning_rows){0};
    REQUIRE(eos >= 0, LCKV_ERROR_ARGUMENT, "the tokenizer has no EOS token, which is needed to end answers");
    TRY(document_reader_create(o->paths, o->path_count, &documents, &reader));
    int status = read_all(o, lckv_tokenizer_id_to_token(o->tokenizer, eos), reader, out);
    document_reader_free(reader);
    if (status >= 0 && !out->count)
        status = fail(LCKV_ERROR_FORMAT, "'%s': no row to train on%s", o->paths[0],
                      out->dropped ? ", because all are too long" : "");
    if (status < 0)
        tuning_rows_free(out);
    else
        warn_of_rows(o, out);
    return status;
}

void tuning_rows_free(tuning_rows *r) {
    id_list_free(&r->ids);
    free(r->learned);
    free(r->ends);
    *r = (tuning_rows){0};
}
