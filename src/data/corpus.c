/* Encoding a corpus into the token cache, see corpus.h. */
#include "data/corpus.h"

#include "base/files/checksum.h"
#include "base/files/digest.h"
#include "base/files/file.h"
#include "base/files/folder.h"
#include "base/text/text_buffer.h"
#include "data/encoder.h"
#include "gguf/gguf.h"
#include "hub/model_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    FORMAT = 1,
    KEY_DIGITS = 40 /* prefix of a SHA-256 digest */,
    SECONDS_TO_TRUST = 2 /* granularity of file times */
};

typedef struct place {
    char *folder;
    char key[DIGEST_TEXT], seen[DIGEST_TEXT];
    char *ids, *lock, *source; /* paths */
} place;

/* ---------------------------------------------------------------- keys */

static void add_text(digest *d, const char *text) {
    digest_add(d, text ? text : "", strlen(text ? text : "") + 1);
}

static void add_number(digest *d, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    add_text(d, text);
}

/* A missing file counts as empty. */
static int add_tokenizer_file(digest *d, const char *folder, const char *name) {
    char *path, *content = NULL;
    size_t bytes = 0;
    TRY(path_join(folder, name, &path));
    int status = file_exists(path) ? file_read(path, &content, &bytes) : LCKV_OK;
    free(path);
    TRY(status);
    add_number(d, (int64_t)bytes);
    digest_add(d, content, bytes);
    free(content);
    return LCKV_OK;
}

/* The metadata, which contains the tokenizer. */
static int add_gguf_header(digest *d, const char *path) {
    gguf_file file;
    TRY(gguf_open(path, &file));
    add_number(d, (int64_t)file.header_bytes);
    digest_add(d, file.map.data, file.header_bytes);
    gguf_close(&file);
    return LCKV_OK;
}

/* Adds what both keys depend on. */
static int begin_key(const corpus_options *o, digest *d) {
    digest_begin(d, DIGEST_SHA256);
    add_number(d, FORMAT);
    add_number(d, o->documents.keep_linebreaks);
    add_text(d, o->documents.text_column);
    add_number(d, o->documents.id_bytes);
    add_number(d, o->append_eos);
    add_number(d, o->path_count);
    if (!o->tokenizer_folder) return LCKV_OK;
    if (gguf_is_file(o->tokenizer_folder)) return add_gguf_header(d, o->tokenizer_folder);
    if (file_exists(o->tokenizer_folder))
        return fail(LCKV_ERROR_ARGUMENT, "'%s': expected a folder with a tokenizer", o->tokenizer_folder);
    TRY(add_tokenizer_file(d, o->tokenizer_folder, "tokenizer.json"));
    return add_tokenizer_file(d, o->tokenizer_folder, "tokenizer_config.json");
}

static int64_t nanoseconds(const struct stat *s) {
    return (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec;
}

/* Key of paths, sizes and times. *settled is false if a file is so new that a further change might not alter its time.
 */
static int seen_key(const corpus_options *o, char out[DIGEST_TEXT], bool *settled) {
    digest d;
    *settled = true;
    TRY(begin_key(o, &d));
    for (int i = 0; i < o->path_count; i++) {
        struct stat s;
        char *path = realpath(o->paths[i], NULL);
        bool there = path && stat(path, &s) == 0;
        if (there) {
            add_text(&d, path);
            add_number(&d, (int64_t)s.st_size);
            add_number(&d, nanoseconds(&s));
            *settled &= s.st_mtim.tv_sec + SECONDS_TO_TRUST < time(NULL);
        }
        free(path);
        REQUIRE(there, LCKV_ERROR_FILE, "cannot open '%s': %s", o->paths[i], strerror(errno));
    }
    digest_end(&d, out);
    out[KEY_DIGITS] = '\0';
    return LCKV_OK;
}

/* Key of the contents and the file name extensions. */
static int content_key(const corpus_options *o, char out[DIGEST_TEXT]) {
    digest d;
    TRY(begin_key(o, &d));
    for (int i = 0; i < o->path_count; i++) {
        uint64_t sum;
        size_t bytes;
        const char *name = path_base(o->paths[i]), *ending = strchr(name, '.');
        TRY(checksum_file(o->paths[i], &sum, &bytes));
        add_text(&d, ending);
        add_number(&d, (int64_t)bytes);
        add_number(&d, (int64_t)sum);
    }
    digest_end(&d, out);
    out[KEY_DIGITS] = '\0';
    return LCKV_OK;
}

/* ---------------------------------------------------------------- places */

static int choose_folder(const corpus_options *o, char **out) {
    text_buffer path = {0};
    int status = o->cache_folder ? text_printf(&path, "%s", o->cache_folder) : hub_home_folder(&path);
    if (status >= 0 && !o->cache_folder) status = text_printf(&path, "/lckv-ids");
    if (status >= 0) status = text_take(&path, out);
    text_free(&path);
    return status;
}

static int path_of(const place *p, const char *key, const char *ending, char **out) {
    char name[DIGEST_TEXT + 16];
    free(*out);
    *out = NULL;
    snprintf(name, sizeof name, "%s%s", key, ending);
    return path_join(p->folder, name, out);
}

static int place_key(place *p) {
    TRY(path_of(p, p->key, ".ids", &p->ids));
    return path_of(p, p->key, ".lock", &p->lock);
}

static void place_free(place *p) {
    free(p->folder);
    free(p->ids);
    free(p->lock);
    free(p->source);
}

/* Leaves p->key empty if these files are not known. */
static int read_source(place *p) {
    char *text;
    size_t bytes;
    if (!file_exists(p->source)) return LCKV_OK;
    TRY(file_read(p->source, &text, &bytes));
    if (bytes == KEY_DIGITS && strspn(text, "0123456789abcdef") == KEY_DIGITS) memcpy(p->key, text, KEY_DIGITS + 1);
    free(text);
    return LCKV_OK;
}

static int find_place(const corpus_options *o, place *p, bool *settled) {
    TRY(choose_folder(o, &p->folder));
    TRY(seen_key(o, p->seen, settled));
    TRY(path_of(p, p->seen, ".source", &p->source));
    if (*settled) TRY(read_source(p));
    if (!*p->key) TRY(content_key(o, p->key));
    return place_key(p);
}

/* ---------------------------------------------------------------- opening */

/* The cached ids may be of a larger vocabulary. */
static int check_vocabulary(const corpus_options *o, const lckv_tokenizer *t, const token_store *s) {
    int64_t limit = t ? lckv_tokenizer_vocab_size(t) : 0;
    if (limit < o->vocab_size) limit = o->vocab_size;
    REQUIRE(s->ids.largest<limit, LCKV_ERROR_FORMAT,
                           "'%s'%s: token id %lld is out of range, the vocabulary has %lld tokens", o->paths[0],
                           o->path_count> 1
                ? " or another"
                : "",
            (long long)s->ids.largest, (long long)limit);
    return LCKV_OK;
}

static int open_kept(const corpus_options *o, const place *p, lckv_tokenizer **t, token_store *out) {
    TRY(token_store_open(p->ids, out));
    int status = LCKV_OK;
    if (out->has_text && !*t) status = lckv_tokenizer_open(o->tokenizer_folder ? o->tokenizer_folder : "", t);
    if (status >= 0) status = check_vocabulary(o, *t, out);
    if (status < 0) token_store_close(out);
    return status;
}

/* Removes files of a process that was killed while it encoded the same corpus. */
static int remove_leftovers(const place *p, bool locked) {
    return locked ? folder_sweep(p->folder, p->key) : LCKV_OK;
}

/* Called with the lock held. Encodes the corpus unless another process has done so meanwhile, and records that these
 * files have this key. */
static int make(const corpus_options *o, place *p, bool settled, lckv_tokenizer **t) {
    if (o->overwrite_cache || !file_exists(p->ids)) TRY(encode_corpus(o, t, p->ids));
    if (!settled) return LCKV_OK;
    return file_replace(p->source, p->key, KEY_DIGITS);
}

static int lock_and_make(const corpus_options *o, place *p, bool settled, lckv_tokenizer **t) {
    int created = folder_create(p->folder);
    if (created < 0) return fail_within(created, "no token cache; set token_cache_dir to another folder");
    int fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    REQUIRE(fd >= 0, LCKV_ERROR_FILE, "cannot write '%s': %s; set token_cache_dir to another folder", p->lock,
            strerror(errno));
    bool locked = flock(fd, LOCK_EX) == 0;
    int status = locked || errno == ENOLCK || errno == ENOSYS
                     ? remove_leftovers(p, locked)
                     : fail(LCKV_ERROR_FILE, "cannot lock '%s': %s", p->lock, strerror(errno));
    if (status >= 0) status = make(o, p, settled, t);
    close(fd);
    return status;
}

static int open_at(const corpus_options *o, place *p, lckv_tokenizer **t, token_store *out) {
    bool settled;
    TRY(find_place(o, p, &settled));
    bool known = settled && file_exists(p->source);
    if (o->overwrite_cache || !known || !file_exists(p->ids)) TRY(lock_and_make(o, p, settled, t));
    return open_kept(o, p, t, out);
}

int corpus_open(const corpus_options *options, lckv_tokenizer **t, token_store *out, char **path) {
    place p = {0};
    *out = (token_store){0};
    if (path) *path = NULL;
    int status = open_at(options, &p, t, out);
    if (status >= 0 && path) {
        *path = p.ids;
        p.ids = NULL;
    }
    place_free(&p);
    return status;
}
