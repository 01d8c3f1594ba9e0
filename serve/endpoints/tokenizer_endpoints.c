/* /tokenize, /detokenize, /tokenizer_info: the tokenizer, for clients that have none. */
#include "json_text.h"
#include "serve/server.h"

#include <stdio.h>

static enum MHD_Result no_tokenizer(const client *to) {
    return reply_error(to, MHD_HTTP_NOT_FOUND, NULL, "no_tokenizer", "the model has no tokenizer");
}

/* Writes JSON text directly: as jansson values, millions of ids would take a hundred times the memory. */
static enum MHD_Result reply_ids(const client *to, int64_t max_model_len, const int32_t *ids, size_t count) {
    bytes text = {0};
    char part[96];
    snprintf(part, sizeof part, "{\"count\":%zu,\"max_model_len\":%lld,\"tokens\":[", count, (long long)max_model_len);
    bytes_add_text(&text, part);
    for (size_t i = 0; i < count && !text.failed; i++) {
        snprintf(part, sizeof part, i ? ",%d" : "%d", (int)ids[i]);
        bytes_add_text(&text, part);
    }
    bytes_add_text(&text, "]}");
    return reply_text_as_json(to, MHD_HTTP_OK, &text);
}

enum MHD_Result tokenize_endpoint(server *s, const client *to, const bytes *body) {
    fields f;
    json_t *object;
    int32_t *ids;
    size_t count;
    if (!s->tokenizer) return no_tokenizer(to);
    if (!fields_parse(&f, body->data, body->length, &object)) return reply_field_error(to, &f);
    const json_t *text = field_value(&f, "prompt");
    if (!json_is_string(text)) fields_error(&f, "prompt", "expected 'prompt': a string");
    bool special = field_bool(&f, "add_special_tokens", true);
    field_ignore(&f, "model");
    enum MHD_Result result;
    if (!fields_finish(&f))
        result = reply_field_error(to, &f);
    else if (lckv_tokenizer_encode(s->tokenizer, json_string_value(text), json_string_length(text), special, &ids,
                                   &count) < 0)
        result = reply_error(to, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, lckv_last_error());
    else {
        worker_status view;
        worker_get_status(s->worker, &view);
        result = reply_ids(to, view.engine.max_model_len, ids, count);
        lckv_free(ids);
    }
    json_decref(object);
    return result;
}

/* NULL after fields_error(). */
static int32_t *read_ids(fields *f, size_t *count) {
    const json_t *list = field_value(f, "tokens");
    int32_t *ids = NULL;
    if (!json_is_array(list) || !ids_read(list, &ids, count))
        fields_error(f, "tokens", "expected 'tokens': a list of token ids");
    return ids;
}

enum MHD_Result detokenize_endpoint(server *s, const client *to, const bytes *body) {
    fields f;
    json_t *object;
    char *text;
    size_t count, length;
    if (!s->tokenizer) return no_tokenizer(to);
    if (!fields_parse(&f, body->data, body->length, &object)) return reply_field_error(to, &f);
    int32_t *ids = read_ids(&f, &count);
    field_ignore(&f, "model");
    enum MHD_Result result;
    if (!fields_finish(&f)) {
        result = reply_field_error(to, &f);
    } else if (lckv_tokenizer_decode(s->tokenizer, ids, count, false, &text, &length) < 0) {
        result = reply_error(to, MHD_HTTP_BAD_REQUEST, "tokens", NULL, lckv_last_error());
    } else {
        result = reply_json(to, MHD_HTTP_OK, json_pack("{so}", "prompt", string_json(text, length)));
        lckv_free(text);
    }
    free(ids);
    json_decref(object);
    return result;
}

/* The special tokens that lm-evaluation-harness requests. */
enum MHD_Result tokenizer_info_endpoint(server *s, const client *to) {
    if (!s->tokenizer) return no_tokenizer(to);
    int32_t bos = lckv_tokenizer_bos_id(s->tokenizer), eos = lckv_tokenizer_eos_id(s->tokenizer);
    const char *bos_text = bos >= 0 ? lckv_tokenizer_id_to_token(s->tokenizer, bos) : NULL;
    const char *eos_text = eos >= 0 ? lckv_tokenizer_id_to_token(s->tokenizer, eos) : NULL;
    return reply_json(to, MHD_HTTP_OK,
                      json_pack("{ss? ss? sI sI sI}", "bos_token", bos_text, "eos_token", eos_text, "bos_token_id",
                                (json_int_t)bos, "eos_token_id", (json_int_t)eos, "vocab_size",
                                (json_int_t)lckv_tokenizer_vocab_size(s->tokenizer)));
}
