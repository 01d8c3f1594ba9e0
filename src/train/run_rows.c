/* Instruction data for a trainer, see run_rows.h. */
#include "train/run_rows.h"

#include "base/log.h"
#include "base/text_buffer.h"
#include "data/row_text.h"
#include "train/run_data.h"

#include <stdlib.h>
#include <string.h>

static bool tell_reading(void *user, double fraction) {
    const lckv_trainer *t = user;
    lckv_train_progress p = {.phase = LCKV_TRAIN_READING, .fraction = fraction};
    return !t->callback || t->callback(t->user, &p);
}

/* A model that does not stop where its answers were taught to end goes on for ever. */
static void compare_eos(const lckv_trainer *t) {
    int32_t eos = lckv_tokenizer_eos_id(t->tokenizer);
    for (int i = 0; i < t->config->eos_count; i++)
        if (t->config->eos_token_ids[i] == eos) return;
    log_message(LCKV_LOG_WARNING,
                "the tokenizer's EOS is token %d, and the model's eos_token_id does not name it: answers will not end "
                "there, unless config_overrides has eos_token_id=%d",
                eos, eos);
}

int tuning_data_begin(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->tuning) return LCKV_OK;
    REQUIRE(t->tokenizer_folder, LCKV_ERROR_ARGUMENT,
            "tuning needs a tokenizer, and '%s' has none: expected tokenizer_name", t->source_folder);
    if (!t->tokenizer) TRY(lckv_tokenizer_open(t->tokenizer_folder, &t->tokenizer));
    compare_eos(t);
    return lckv_chat_template_open(t->tokenizer_folder, o->tuning->chat_template, &t->chat_template);
}

int tuning_data_rows(lckv_trainer *t, const lckv_train_options *o, const char *const *paths, int count,
                     tuning_rows *out) {
    const tuning_options options = {.how = o->tuning,
                                    .paths = paths,
                                    .path_count = count,
                                    .tokenizer = t->tokenizer,
                                    .chat_template = t->chat_template,
                                    .longest = train_data_block_size(t, o),
                                    .go_on = tell_reading,
                                    .user = t};
    return tuning_rows_read(&options, out);
}

int tuning_data_set(const lckv_trainer *t, const lckv_train_options *o, const tuning_rows *rows, int64_t first,
                    int64_t count, int64_t most, tuning_set *out) {
    if (most && count > most) count = most;
    REQUIRE(count > 0, LCKV_ERROR_FORMAT, "%lld rows leave none to learn from, or none to evaluate on",
            (long long)rows->count);
    return tuning_set_make(rows, first, count, train_data_block_size(t, o), o->tuning->packing, out);
}

/* ---------------------------------------------------------------- the template that travels along */

static int keep(const char *begin, const char *text, char **out) {
    text_buffer b = {0};
    int status = text_printf(&b, "%s%s", begin, text);
    if (status >= 0) status = text_take(&b, out);
    text_free(&b);
    return status;
}

/* Whether the tokenizer puts BOS before a text, as it did before the rows in Alpaca's words. */
static int puts_bos(lckv_tokenizer *t, bool *out) {
    int32_t *ids;
    size_t count;
    TRY(lckv_tokenizer_encode(t, "a", 1, true, &ids, &count));
    *out = count > 0 && ids[0] == lckv_tokenizer_bos_id(t);
    lckv_free(ids);
    return LCKV_OK;
}

int tuning_data_choose_template(lckv_trainer *t, const lckv_train_options *o) {
    bool bos;
    if (!o->tuning) return LCKV_OK;
    if (o->tuning->chat_template) return keep("", lckv_chat_template_source(t->chat_template), &t->template_text);
    if (t->chat_template || !t->train_rows.alpaca) return LCKV_OK;
    TRY(puts_bos(t->tokenizer, &bos));
    return keep(bos ? "{{- bos_token }}\n" : "", TUNING_ALPACA_TEMPLATE, &t->template_text);
}
