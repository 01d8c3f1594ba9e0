/* Writing several files together, see staging.h. */
#include "io/tensors/staging.h"

#include "gguf/gguf.h"
#include "text/gguf/gguf_tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int staging_begin(staging *s, const char *name, new_file **out) {
    if (s->count == s->capacity) {
        int capacity = s->capacity ? 2 * s->capacity : 16;
        new_file *grown = realloc(s->files, (size_t)capacity * sizeof *grown);
        REQUIRE(grown, LCKV_ERROR_MEMORY, "no memory for a list of %d files", capacity);
        s->files = grown;
        s->capacity = capacity;
    }
    char *path;
    TRY(path_join(s->folder, name, &path));
    int status = file_begin(path, &s->files[s->count]);
    free(path);
    if (status >= 0) *out = &s->files[s->count++];
    return status;
}

int staging_add(staging *s, const char *name, const void *bytes, size_t count) {
    new_file *file;
    TRY(staging_begin(s, name, &file));
    return file_write(file, bytes, count);
}

/* Numbers have as few digits as read back equal: 1e-5, as in most files, not 1.0000000000000001e-5. */
static char *write_json(const json_t *value, size_t flags) {
    for (size_t digits = 15;; digits++) {
        char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits) | flags);
        json_t *again = text && digits < 17 ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
        bool equal = digits == 17 || !text || json_equal(again, value);
        json_decref(again);
        if (equal) return text;
        free(text);
    }
}

int staging_json(staging *s, const char *name, json_t *value, size_t flags) {
    char *text = write_json(value, flags);
    json_decref(value);
    REQUIRE(text, LCKV_ERROR_MEMORY, "no memory to write %s", name);
    size_t length = strlen(text);
    text[length] = '\n'; /* replaces the NUL; only `length + 1` bytes are written */
    int status = staging_add(s, name, text, length + 1);
    free(text);
    return status;
}

static bool same_file(const char *left, const char *right) {
    struct stat a, b;
    return stat(left, &a) == 0 && stat(right, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int copy_from(staging *s, const char *path, const char *name) {
    char *bytes;
    size_t count;
    TRY(file_read(path, &bytes, &count));
    int status = staging_add(s, name, bytes, count);
    free(bytes);
    return status;
}

int staging_copy(staging *s, const char *from_folder, const char *name) {
    if (same_file(from_folder, s->folder)) return LCKV_OK;
    char *path;
    TRY(path_join(from_folder, name, &path));
    int status = path_exists(path) ? copy_from(s, path, name) : LCKV_OK;
    free(path);
    return status;
}

static int write_from_gguf(staging *s, const char *path, const char *name) {
    json_t *tree;
    TRY(gguf_tokenizer_file(path, name, &tree));
    return tree ? staging_json(s, name, tree, 0) : LCKV_OK;
}

int staging_tokenizer(staging *s, const char *from_folder, const char *chat_template) {
    static const char *const names[] = {"tokenizer.json",    "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "tokenizer.model",       "vocab.json",
                                        "merges.txt"};
    bool gguf = gguf_is_file(from_folder);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        TRY(gguf ? write_from_gguf(s, from_folder, names[i]) : staging_copy(s, from_folder, names[i]));
    if (chat_template) return staging_add(s, "chat_template.jinja", chat_template, strlen(chat_template));
    TRY(staging_copy(s, from_folder, "chat_template.jinja"));
    return staging_copy(s, from_folder, "chat_template.json");
}

int staging_sync(staging *s) {
    for (int i = 0; i < s->count; i++) {
        FILE *stream = s->files[i].stream;
        REQUIRE(fflush(stream) == 0 && fsync(fileno(stream)) == 0, LCKV_ERROR_FILE, "cannot write '%s': %s",
                s->files[i].partial, strerror(errno));
    }
    return LCKV_OK;
}

int staging_commit(staging *s) {
    for (int i = 0; i < s->count; i++) TRY(file_commit(&s->files[i]));
    staging_abandon(s);
    return LCKV_OK;
}

void staging_abandon(staging *s) {
    for (int i = 0; i < s->count; i++) file_abandon(&s->files[i]);
    free(s->files);
    *s = (staging){.folder = s->folder};
}
