/* Text streams: streamed text continues the prompt's text exactly, in whole characters, and ends before a stop string.
 */
#include "generate/text_stream.h"

#include "base/rng.h"

#include "small_tokenizer.h"

/* All text of a stream for `ids` after `prompt`, token by token. `copied`: from a copy that was made after the prompt
 * and that outlives the original. */
static char *stream_once(lckv_tokenizer *t, const int32_t *prompt, int prompt_count, const int32_t *ids, int count,
                         const char *const *stops, int stop_count, bool copied, char **alone) {
    text_stream s, first;
    text_buffer all = {0};
    size_t bytes;
    char *text;
    OK(text_stream_open(&s, t, prompt, prompt_count, stops, stop_count));
    if (copied) {
        first = s;
        OK(text_stream_copy(&s, &first));
        text_stream_close(&first);
    }
    for (int i = 0; i < count; i++) {
        OK(text_stream_push(&s, ids[i]));
        if (i == count - 1) OK(text_stream_finish(&s));
        const char *piece = text_stream_take(&s, &bytes);
        OK(text_append(&all, piece, bytes));
        for (size_t j = 0; bytes && j == 0; j++)
            assert_true((piece[0] & 0xC0) != 0x80); /* the first byte of a character */
    }
    if (alone) OK(text_stream_decode(&s, ids, count, alone, &bytes));
    OK(text_take(&all, &text));
    text_stream_close(&s);
    return text;
}

/* A copy gives the same text. */
static char *stream_text(lckv_tokenizer *t, const int32_t *prompt, int prompt_count, const int32_t *ids, int count,
                         const char *const *stops, int stop_count, char **alone) {
    char *text = stream_once(t, prompt, prompt_count, ids, count, stops, stop_count, false, alone);
    char *by_copy = stream_once(t, prompt, prompt_count, ids, count, stops, stop_count, true, NULL);
    assert_string_equal(by_copy, text);
    free(by_copy);
    return text;
}

static char *decode_all(lckv_tokenizer *t, const int32_t *ids, int count) {
    char *text;
    size_t bytes;
    OK(lckv_tokenizer_decode(t, ids, (size_t)count, true, &text, &bytes));
    return text;
}

/* For any split of ids into prompt and continuation, both texts together are the text of all ids. If the split is
 * inside a character, the stream outputs the whole character. */
static void check_cuts(lckv_tokenizer *t, const int32_t *ids, int count) {
    char *all = decode_all(t, ids, count);
    for (int cut = 1; cut < count; cut++) {
        char *prompt = decode_all(t, ids, cut),
             *streamed = stream_text(t, ids, cut, ids + cut, count - cut, NULL, 0, NULL);
        size_t begin = strlen(all) - strlen(streamed);
        bool inside = strncmp(all, prompt, strlen(prompt)) != 0; /* the prompt ends inside a character */
        if (strcmp(all + begin, streamed) || (!inside && begin != strlen(prompt)))
            fail_msg("cut at %d: '%s' and '%s' are not '%s'", cut, prompt, streamed, all);
        free(prompt);
        free(streamed);
    }
    free(all);
}

static void prompt_and_continuation_are_one_text(void **state) {
    lckv_tokenizer *t = small_tokenizer(*state);
    const int32_t plain[] = {1,
                             word_token("▁the"),
                             word_token("▁cat"),
                             word_token("ing"),
                             word_token("▁"),
                             word_token("▁"),
                             word_token("▁sat"),
                             2};
    const int32_t bytes[] = {1,
                             word_token("▁a"),
                             BYTE_TOKEN + '\n',
                             BYTE_TOKEN + 0xE2,
                             BYTE_TOKEN + 0x82,
                             BYTE_TOKEN + 0xAC,
                             word_token("é"),
                             BYTE_TOKEN + '\n',
                             word_token("b"),
                             BYTE_TOKEN + ' '};
    check_cuts(t, plain, sizeof plain / sizeof *plain);
    check_cuts(t, bytes, sizeof bytes / sizeof *bytes);
    for (uint64_t n = 0; n < 50; n++) { /* words and random ASCII bytes */
        int32_t ids[12];
        for (uint64_t i = 0; i < 12; i++) {
            double u = rng_uniform(1, n, i), v = rng_uniform(2, n, i);
            ids[i] = u < 0.7 ? WORD_TOKEN + (int32_t)(v * SMALL_WORDS) : BYTE_TOKEN + (int32_t)(v * 128);
            if (ids[i] == BYTE_TOKEN) ids[i] = 1; /* no NUL: this test uses strings */
        }
        check_cuts(t, ids, 12);
    }
    lckv_tokenizer_free(t);
}

static void stop_strings_end_text(void **state) {
    lckv_tokenizer *t = small_tokenizer(*state);
    const int32_t prompt[] = {1, word_token("▁the"), word_token("▁stop")};
    const int32_t ids[] = {word_token("▁cat"), word_token("▁"),  word_token("st"), word_token("ing"),
                           word_token("▁"),    word_token("st"), word_token("op"), word_token("▁sat")};
    const struct {
        const char *stops[2];
        int count;
        const char *streamed, *alone;
    } cases[] = {
        {{"stop"}, 1, " cat sting ", "cat sting "}, /* across two tokens, and not the one in the prompt */
        {{"sat"}, 1, " cat sting stop ", "cat sting stop "},
        {{"sat", "sting"}, 2, " cat ", "cat "}, /* the earliest */
        {{" "}, 1, "", ""},                     /* at the boundary */
        {{"stop sa"}, 1, " cat sting ", "cat sting "},
        {{"stopped"}, 1, " cat sting stop sat", "cat sting stop sat"}, /* only a prefix of it occurs */
        {{"t"}, 1, " ca", "ca"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *alone, *streamed = stream_text(t, prompt, 3, ids, 8, cases[i].stops, cases[i].count, &alone);
        assert_string_equal(streamed, cases[i].streamed);
        assert_string_equal(alone, cases[i].alone);
        free(streamed);
        free(alone);
    }
    lckv_tokenizer_free(t);
}

/* Text that may become a stop string is held back. */
static void beginnings_wait(void **state) {
    lckv_tokenizer *t = small_tokenizer(*state);
    const char *const stops[] = {"aab", "ba"};
    const struct {
        const char *word, *said;
    } steps[] = {{"a", ""}, {"a", ""}, {"a", "a"}, {"e", "aae"}, {"b", ""}, {"b", "b"}, {"a", ""}};
    const int32_t prompt[] = {1, word_token("▁the")};
    text_stream s;
    size_t bytes;
    OK(text_stream_open(&s, t, prompt, 2, stops, 2));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        OK(text_stream_push(&s, word_token(steps[i].word)));
        const char *said = text_stream_take(&s, &bytes);
        assert_int_equal(bytes, strlen(steps[i].said));
        assert_memory_equal(said, steps[i].said, bytes);
        assert_int_equal(s.stopped, i == 6);
    }
    text_stream_close(&s);
    lckv_tokenizer_free(t);
}

/* A model may have more ids than its tokenizer has tokens. */
static void ids_without_a_token_have_no_text(void **state) {
    lckv_tokenizer *t = small_tokenizer(*state);
    const int32_t prompt[] = {1, SMALL_VOCAB + 7}, ids[] = {word_token("▁cat"), SMALL_VOCAB, word_token("▁sat")};
    char *alone, *streamed = stream_text(t, prompt, 2, ids, 3, NULL, 0, &alone);
    assert_string_equal(streamed, "cat sat"); /* no token before it: the decoder removes the first space */
    assert_string_equal(alone, "cat sat");
    free(streamed);
    free(alone);
    lckv_tokenizer_free(t);
}

/* Texts of many scripts, split anywhere. */
static void real_tokenizer(void **state) {
    (void)state;
    lckv_tokenizer *t;
    const char text[] = "The café's naïve rôle — 12 monkeys: 日本語 🙂\n\n  ok. \tEnd";
    int32_t *ids;
    size_t count;
    if (lckv_tokenizer_open(SHARED_DIR "/data/tokenizers/stories512", &t) < 0) {
        print_message("skipped: no tokenizers in " SHARED_DIR "\n");
        skip();
    }
    OK(lckv_tokenizer_encode(t, text, strlen(text), true, &ids, &count));
    char *all = decode_all(t, ids, (int)count);
    assert_string_equal(all, text);
    check_cuts(t, ids, (int)count);
    free(all);
    lckv_free(ids);
    lckv_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(prompt_and_continuation_are_one_text), IN_FOLDER(stop_strings_end_text), IN_FOLDER(beginnings_wait),
        IN_FOLDER(ids_without_a_token_have_no_text),     cmocka_unit_test(real_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
