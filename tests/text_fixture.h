/* Tokenizers for tests, from JSON in the test or from SHARED_DIR. Includes cmocka, after the project's headers. */
#ifndef TESTS_TEXT_FIXTURE_H
#define TESTS_TEXT_FIXTURE_H

#include "base/files/file.h"
#include "base/rng.h"
#include "base/text/json.h"
#include "base/text/text_buffer.h"
#include "base/text/utf8.h"
#include "text/tokenizer/tokenizer.h"

#include "expect.h"

#include <unistd.h>

static inline json_t *json_of(const char *text) {
    json_t *value;
    OK(json_parse(text, strlen(text), "test", &value));
    return value;
}

static inline void assert_text(const char *what, const char *text, size_t bytes, const char *expected) {
    if (bytes == strlen(expected) && (bytes == 0 || !memcmp(text, expected, bytes))) return;
    fail_msg("%s: found '%.*s', expected '%s'", what, (int)bytes, text ? text : "", expected);
}

/* Opens a tokenizer.json of this text, without a file; returns the status. */
static inline int open_json(const char *text, size_t bytes, lckv_tokenizer **out) {
    lckv_tokenizer *t = calloc(1, sizeof *t);
    json_t *root;
    *out = NULL;
    assert_non_null(t);
    int status = json_parse(text, bytes, "tokenizer.json", &root);
    if (status >= 0) status = tokenizer_read_parts(t, root, "tokenizer.json");
    json_decref(root);
    if (status < 0)
        lckv_tokenizer_free(t);
    else
        *out = t;
    return status;
}

/* The same from a folder, with a tokenizer_config.json. */
static inline int open_with_config(const char *text, const char *config, lckv_tokenizer **out) {
    char folder[] = "/tmp/lckv_text_XXXXXX", file[64], config_file[64];
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/tokenizer.json", folder);
    snprintf(config_file, sizeof config_file, "%s/tokenizer_config.json", folder);
    OK(file_replace(file, text, strlen(text)));
    OK(file_replace(config_file, config, strlen(config)));
    int status = lckv_tokenizer_open(folder, out);
    unlink(file);
    unlink(config_file);
    rmdir(folder);
    return status;
}

/* Parts of a tokenizer.json. NULL writes null (for added_tokens an empty list). */
typedef struct tokenizer_parts {
    const char *added_tokens, *normalizer, *pre_tokenizer, *post_processor, *decoder;
    const char *model; /* the members after "type" */
    const char *type;  /* of the model; NULL: BPE */
} tokenizer_parts;

static inline int open_parts(const tokenizer_parts *p, lckv_tokenizer **out) {
    text_buffer text = {0};
    OK(text_printf(&text,
                   "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": %s, "
                   "\"normalizer\": %s, \"pre_tokenizer\": %s, \"post_processor\": %s, \"decoder\": %s, "
                   "\"model\": {\"type\": \"%s\", %s}}",
                   p->added_tokens ? p->added_tokens : "[]", p->normalizer ? p->normalizer : "null",
                   p->pre_tokenizer ? p->pre_tokenizer : "null", p->post_processor ? p->post_processor : "null",
                   p->decoder ? p->decoder : "null", p->type ? p->type : "BPE", p->model));
    int status = open_json(text.data, text.length, out);
    text_free(&text);
    return status;
}

/* The tokens of a text, separated by '|'; release with free(). */
static inline char *tokens_of(lckv_tokenizer *t, const char *text, size_t bytes) {
    int32_t *ids;
    size_t count;
    text_buffer joined = {0};
    char *out;
    OK(lckv_tokenizer_encode(t, text, bytes, true, &ids, &count));
    for (size_t i = 0; i < count; i++)
        OK(text_printf(&joined, "%s%s", i ? "|" : "", lckv_tokenizer_id_to_token(t, ids[i])));
    OK(text_take(&joined, &out));
    lckv_free(ids);
    return out;
}

static inline void assert_tokens(lckv_tokenizer *t, const char *text, const char *expected) {
    char *found = tokens_of(t, text, strlen(text));
    if (strcmp(found, expected) != 0) fail_msg("'%s' became '%s', expected '%s'", text, found, expected);
    free(found);
}

/* SHARED_DIR/data/tokenizers/NAME. Unpacks tokenizer.json if there is only a .gz; skips the test if the data is absent.
 */
static inline lckv_tokenizer *open_shared(const char *name) {
    char path[1024], command[1100];
    lckv_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/data/tokenizers/%s/tokenizer.json", SHARED_DIR, name);
    if (file_exists(path)) {
        OK(lckv_tokenizer_open(path, &t));
        return t;
    }
    snprintf(path, sizeof path, "%s/data/tokenizers/%s/tokenizer.json.gz", SHARED_DIR, name);
    if (!file_exists(path)) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    snprintf(command, sizeof command, "gzip -dc '%s'", path);
    FILE *stream = popen(command, "r");
    text_buffer text = {0};
    char chunk[65536];
    assert_non_null(stream);
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, stream)) > 0;) OK(text_append(&text, chunk, got));
    assert_int_equal(pclose(stream), 0);
    OK(open_json(text.data, text.length, &t));
    text_free(&text);
    return t;
}

#endif
