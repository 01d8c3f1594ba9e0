/* Fuzz target: tokenizer.json, then a text, then tokenizer_config.json. Encodes and decodes at once and id by id, with
 * equal results. */
#include "fuzz.h"

#include "base/text/text_buffer.h"

#include <stdlib.h>
#include <string.h>

static int stream_text(lckv_tokenizer *t, const int32_t *ids, size_t count, text_buffer *out) {
    lckv_decode_stream *stream;
    const char *text;
    size_t bytes;
    TRY(lckv_decode_stream_open(t, false, &stream));
    int status = LCKV_OK;
    for (size_t i = 0; i < count && status >= 0; i++) {
        status = lckv_decode_stream_push(stream, ids[i], &text, &bytes);
        if (status >= 0) status = text_append(out, text, bytes);
    }
    if (status >= 0) status = lckv_decode_stream_finish(stream, &text, &bytes);
    if (status >= 0) status = text_append(out, text, bytes);
    lckv_decode_stream_free(stream);
    return status;
}

static int decode(lckv_tokenizer *t, const int32_t *ids, size_t count) {
    char *whole = NULL;
    size_t bytes = 0;
    text_buffer streamed = {0};
    int status = lckv_tokenizer_decode(t, ids, count, false, &whole, &bytes),
        again = stream_text(t, ids, count, &streamed);
    FUZZ_CHECK((status >= 0) == (again >= 0));
    if (status >= 0) {
        FUZZ_CHECK(bytes == streamed.length && (!bytes || !memcmp(whole, streamed.data, bytes)));
        FUZZ_CHECK(fuzz_is_utf8(whole, bytes));
    }
    status = fuzz_end(again < 0 ? again : status, !whole || status >= 0);
    lckv_free(whole);
    text_free(&streamed);
    return status;
}

static int each_token(lckv_tokenizer *t, const int32_t *ids, size_t count) {
    int status = LCKV_OK;
    for (size_t i = 0; i < count && status >= 0; i++) {
        char *text = NULL;
        size_t bytes;
        FUZZ_CHECK(ids[i] >= 0 && ids[i] < lckv_tokenizer_vocab_size(t) && lckv_tokenizer_id_to_token(t, ids[i]));
        status = lckv_tokenizer_token_bytes(t, ids[i], i == 0, &text, &bytes);
        status = fuzz_end(status, !text);
        lckv_free(text);
    }
    return status;
}

static int use(lckv_tokenizer *t, fuzz_part text) {
    int32_t *ids, *again;
    size_t count, same;
    int status = lckv_tokenizer_encode(t, text.data, text.size, true, &ids, &count);
    status = fuzz_end(status, !ids);
    if (status < 0) return status;
    FUZZ_CHECK(lckv_tokenizer_encode(t, text.data, text.size, true, &again, &same) >= 0 && same == count &&
               (!count || !memcmp(ids, again, count * sizeof *ids)));
    lckv_free(again);
    status = decode(t, ids, count);
    if (status >= 0) status = each_token(t, ids, count < 64 ? count : 64);
    lckv_free(ids);
    return status;
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    lckv_tokenizer *t;
    fuzz_clear();
    fuzz_put("tokenizer.json", fuzz_next(&rest));
    fuzz_part text = fuzz_next(&rest);
    fuzz_put("tokenizer_config.json", rest);
    int status = lckv_tokenizer_open(fuzz_folder(), &t);
    status = fuzz_end(status, !t);
    if (status >= 0) status = use(t, text.data ? text : (fuzz_part){"", 0});
    lckv_tokenizer_free(t);
    return status;
}
