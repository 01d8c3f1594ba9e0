/* The token cache: entries do not depend on the number of threads, are found by content, and are encoded again if
 * anything differs. */
#include "data/corpus.h"

#include "folder_fixture.h"
#include "log_capture.h"

#include <sys/stat.h>
#include <utime.h>

static const char BOOK[] = SOURCE_DIR "/data/pride_and_prejudice.txt", TOKENIZER[] = SOURCE_DIR "/data/tokenizer";

typedef struct kept {
    int calls; /* of go_on, which encoding calls */
    char *path;
    int64_t documents, tokens;
    uint64_t mark; /* hash of all ids */
} kept;

static bool count_call(void *user, double fraction) {
    assert_true(fraction >= 0 && fraction <= 1);
    ++*(int *)user;
    return true;
}

static corpus_options options_for(folder *r, const char *const *path) {
    return (corpus_options){.paths = path,
                            .path_count = 1,
                            .documents = {.keep_linebreaks = true, .id_bytes = 2},
                            .vocab_size = 100,
                            .tokenizer_folder = TOKENIZER,
                            .cache_folder = in(r, "cache"),
                            .go_on = count_call};
}

static kept open_with(corpus_options o) {
    kept k = {0};
    token_store s;
    lckv_tokenizer *t = NULL;
    o.user = &k.calls;
    OK(corpus_open(&o, &t, &s, &k.path));
    k.documents = s.documents;
    k.tokens = s.tokens;
    for (int64_t i = 0; i < s.tokens; i++) {
        int32_t id;
        OK(id_view_read(&s.ids, i, 1, &id));
        k.mark = (k.mark ^ (uint64_t)id) * 0x100000001b3;
    }
    assert_true(s.has_text == (t != NULL)); /* text needs its tokenizer, also if it is in the cache */
    lckv_tokenizer_free(t);
    token_store_close(&s);
    return k;
}

static bool same_ids(const kept *a, const kept *b) {
    return a->documents == b->documents && a->tokens == b->tokens && a->mark == b->mark;
}

static void make_old(const char *path) {
    assert_int_equal(utime(path, &(struct utimbuf){1000000000, 1000000000}), 0);
}

static const char *copy_of_book(folder *r, const char *name) {
    const char *path = in(r, name);
    OK(file_copy(BOOK, path));
    make_old(path);
    return path;
}

static void any_number_of_threads_gives_the_same_ids(void **state) {
    const char *path = copy_of_book(*state, "book.txt");
    corpus_options o = options_for(*state, &path);
    o.threads = 1;
    kept one = open_with(o);
    o.overwrite_cache = true;
    assert_true(one.calls > 0 && one.documents > 1000);
    for (int threads = 2; threads <= 16; threads *= 2) {
        o.threads = threads;
        kept more = open_with(o);
        assert_true(more.calls > 0 && same_ids(&one, &more));
        assert_string_equal(more.path, one.path);
        free(more.path);
    }
    free(one.path);
}

static void a_second_run_encodes_nothing(void **state) {
    const char *path = copy_of_book(*state, "book.txt"), *other = copy_of_book(*state, "other.txt");
    corpus_options o = options_for(*state, &path);
    kept first = open_with(o), second = open_with(o);
    assert_true(first.calls > 0 && second.calls == 0 && same_ids(&first, &second));
    o.paths = &other; /* the same content in another, newer file */
    kept third = open_with(o);
    assert_true(third.calls == 0 && same_ids(&first, &third));
    assert_string_equal(third.path, first.path);
    o.overwrite_cache = true;
    kept fourth = open_with(o);
    assert_true(fourth.calls > 0 && same_ids(&first, &fourth));
    free(first.path);
    free(second.path);
    free(third.path);
    free(fourth.path);
}

/* Whether changed options or files lead to another entry. */
static void expect_another(corpus_options o, const kept *usual) {
    kept k = open_with(o);
    assert_true(k.calls > 0);
    assert_string_not_equal(k.path, usual->path);
    free(k.path);
}

static void what_changes_ids_is_encoded_anew(void **state) {
    folder *r = *state;
    const char *path = copy_of_book(r, "book.txt"), *place = in(r, "tokenizer");
    corpus_options o = options_for(r, &path), changed = o;
    kept usual = open_with(o);
    changed.append_eos = true;
    expect_another(changed, &usual);
    changed = o, changed.documents.keep_linebreaks = false;
    expect_another(changed, &usual);

    OK(folder_create(place));
    OK(file_copy(SOURCE_DIR "/data/tokenizer/tokenizer.json", in(r, "tokenizer/tokenizer.json")));
    OK(put_text_in(r, "tokenizer/tokenizer_config.json", "{}") ? LCKV_OK : LCKV_ERROR_FILE);
    changed = o, changed.tokenizer_folder = place;
    expect_another(changed, &usual);

    char *text;
    size_t bytes;
    OK(file_read(path, &text, &bytes));
    text[100] ^= 1; /* the same size, another content, another time */
    OK(file_replace(path, text, bytes));
    free(text);
    expect_another(o, &usual);
    free(usual.path);
}

static void damaged_and_foreign_entries_are_refused(void **state) {
    folder *r = *state;
    const char *path = put_text_in(r, "a.jsonl", "{\"input_ids\": [1, 2, 70]}\n{\"input_ids\": [3]}");
    corpus_options o = options_for(r, &path);
    token_store s;
    lckv_tokenizer *t = NULL;
    make_old(path);
    kept k = open_with(o);
    assert_true(k.documents == 2 && k.tokens == 4);
    o.user = &k.calls;
    o.vocab_size = 70;
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT,
          "token id 70 is out of range, the vocabulary has 70 tokens");
    o.vocab_size = 71;

    char *bytes;
    size_t count;
    OK(file_read(k.path, &bytes, &count));
    OK(file_replace(k.path, bytes, count - 1));
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "is damaged");
    bytes[count - 8]++; /* end of the last document */
    OK(file_replace(k.path, bytes, count));
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "is damaged");
    bytes[count - 8]--;
    bytes[count - 16] += 8; /* end of the first document, behind that of the last one */
    OK(file_replace(k.path, bytes, count));
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "the ends of its documents are not ascending");
    bytes[count - 16] -= 8;
    bytes[64] = 99; /* an id larger than any */
    OK(file_replace(k.path, bytes, count));
    OK(corpus_open(&o, &t, &s, NULL));
    int32_t ids[4];
    FAILS(id_view_read(&s.ids, 0, 4, ids), LCKV_ERROR_FORMAT, "is damaged");
    token_store_close(&s);
    bytes[0] = 'X';
    OK(file_replace(k.path, bytes, count));
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "is damaged");
    OK(file_replace(k.path, bytes, 10));
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "too short");
    o.overwrite_cache = true;
    OK(corpus_open(&o, &t, &s, NULL));
    token_store_close(&s);
    free(bytes);
    free(k.path);
}

/* A file that cannot be encoded leaves no entry. */
static void a_failure_leaves_no_entry(void **state) {
    folder *r = *state;
    const char *path = put_text_in(r, "a.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n");
    corpus_options o = options_for(r, &path);
    token_store s;
    lckv_tokenizer *t = NULL;
    kept k = {0};
    o.user = &k.calls;
    for (int i = 0; i < 2; i++) FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "a.jsonl:2");
    DIR *cache = opendir(o.cache_folder);
    for (struct dirent *e; (e = readdir(cache));) assert_null(strstr(e->d_name, ".ids"));
    closedir(cache);
    lckv_tokenizer_free(t);
}

/* Text that is not UTF-8 is encoded, with a warning: a file in another encoding would become noise. */
static void text_that_is_not_utf8_is_reported(void **state) {
    folder *r = *state;
    const char *path = put_text_in(r, "good.txt", "caf\xc3\xa9\nna\xc3\xafve\n");
    capture_log(LCKV_LOG_WARNING);
    free(open_with(options_for(r, &path)).path);
    assert_string_equal(logged, "");
    path = put_text_in(r, "latin1.txt", "coffee\ncaf\xe9\nna\xefve\ntea\n");
    free(open_with(options_for(r, &path)).path);
    end_capture();
    if (!strstr(logged, "2 of 4 documents are not valid UTF-8") || !strstr(logged, "latin1.txt:1)"))
        fail_msg("%s", logged);
}

/* Rows without ids are documents, and nothing points into an absent array. */
static void documents_may_be_empty(void **state) {
    folder *r = *state;
    const char *path = put_text_in(r, "a.jsonl", "{\"input_ids\": []}\n{\"input_ids\": []}\n");
    corpus_options o = options_for(r, &path);
    token_store s;
    lckv_tokenizer *t = NULL;
    kept k = {0};
    o.user = &k.calls;
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FORMAT, "expected text or token ids, found none");
    path = put_text_in(r, "b.jsonl", "{\"input_ids\": []}\n{\"input_ids\": [3]}\n{\"input_ids\": []}\n");
    k = open_with(o);
    assert_int_equal(k.documents, 3);
    assert_int_equal(k.tokens, 1);
    free(k.path);
    lckv_tokenizer_free(t);
}

/* For example because HOME does not exist. */
static void a_folder_that_cannot_be_created_is_named(void **state) {
    folder *r = *state;
    char below[600];
    const char *path = put_text_in(r, "a.jsonl", "{\"input_ids\": [3]}\n");
    corpus_options o = options_for(r, &path);
    token_store s;
    lckv_tokenizer *t = NULL;
    kept k = {0};
    o.user = &k.calls;
    snprintf(below, sizeof below, "%s/cache", path); /* below a file */
    o.cache_folder = below;
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_FILE, "set token_cache_dir to another folder");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(any_number_of_threads_gives_the_same_ids),
        IN_FOLDER(a_second_run_encodes_nothing),
        IN_FOLDER(what_changes_ids_is_encoded_anew),
        IN_FOLDER(damaged_and_foreign_entries_are_refused),
        IN_FOLDER(a_failure_leaves_no_entry),
        IN_FOLDER(text_that_is_not_utf8_is_reported),
        IN_FOLDER(documents_may_be_empty),
        IN_FOLDER(a_folder_that_cannot_be_created_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
