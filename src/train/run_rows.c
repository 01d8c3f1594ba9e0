/* Instruction data for a trainer, see run_rows.h. */
#include "train/run_rows.h"

#include "base/log.h"
#include "base/text/text_buffer.h"
#include "data/tuning/tuning_text.h"
#include "train/callback.h"

#include <stdlib.h>
#include <string.h>

/* A model only stops at the token ids in its eos_token_id. */
static void compare_eos(const lckv_trainer *t) {
    int32_t eos = lckv_tokenizer_eos_id(t->tokenizer);
    for (int i = 0; i < t->config->eos_count; i++)
        if (t->config->eos_token_ids[i] == eos) return;
    log_message(LCKV_LOG_WARNING,
                "the tokenizer's EOS is token %d, which is not in the model's eos_token_id: generation will not stop "
                "at the end "
                "of an answer; set config_overrides eos_token_id=%d",
                eos, eos);
}

int tuning_data_begin(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->tuning) return LCKV_OK;
    REQUIRE(t->origin.tokenizer_folder, LCKV_ERROR_ARGUMENT,
            "instruction tuning needs a tokenizer, but '%s' has none; set tokenizer_name", t->origin.source_folder);
    if (!t->tokenizer) TRY(lckv_tokenizer_open(t->origin.tokenizer_folder, &t->tokenizer));
    compare_eos(t);
    return lckv_chat_template_open(t->origin.tokenizer_folder, o->tuning->chat_template, &t->chat_template);
}

int tuning_data_rows(lckv_trainer *t, const lckv_train_options *o, const char *const *paths, int count,
                     tuning_rows *out) {
    const tuning_options options = {.how = o->tuning,
                                    .paths = paths,
                                    .path_count = count,
                                    .tokenizer = t->tokenizer,
                                    .chat_template = t->chat_template,
                                    .longest = t->block_size,
                                    .go_on = trainer_reading,
                                    .user = t};
    return tuning_rows_read(&options, out);
}

int tuning_data_set(const lckv_trainer *t, const lckv_train_options *o, const tuning_rows *rows, int64_t first,
                    int64_t count, int64_t limit, tuning_set *out) {
    if (limit && count > limit) count = limit;
    REQUIRE(count > 0, LCKV_ERROR_FORMAT, "%lld row%s %s too few: none are left for training or for validation",
            (long long)rows->count, plural(rows->count), is_or_are(rows->count));
    return tuning_set_make(rows, first, count, t->block_size, o->tuning->packing, out);
}

/* ---------------------------------------------------------------- the chat template of the checkpoint */

static int concatenate(const char *begin, const char *text, char **out) {
    text_buffer b = {0};
    int status = text_printf(&b, "%s%s", begin, text);
    if (status >= 0) status = text_take(&b, out);
    text_free(&b);
    return status;
}

/* Whether the tokenizer adds BOS to a text. If so, it did for the training rows in Alpaca's format. */
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
    if (o->tuning->chat_template)
        return concatenate("", lckv_chat_template_source(t->chat_template), &t->origin.chat_template);
    if (t->chat_template || !t->train_rows.alpaca) return LCKV_OK;
    TRY(puts_bos(t->tokenizer, &bos));
    return concatenate(bos ? "{{- bos_token }}\n" : "", TUNING_ALPACA_TEMPLATE, &t->origin.chat_template);
}
