/* lckv_fetch(): downloads a repository of the hub into the Hugging Face cache.
 *
 *     CACHE/models--ORG--NAME/blobs/DIGEST                     the contents (blob.h)
 *                             snapshots/COMMIT/PATH            links to them, ../../blobs/DIGEST
 *                             refs/REVISION                    the commit of a branch or tag
 *
 * The reference is written last, so that a name never refers to an incomplete snapshot. */
#include "base/clock.h"
#include "base/files/file.h"
#include "base/options.h"
#include "base/text/text_buffer.h"
#include "hub/blob.h"
#include "hub/model_path.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LISTING_BYTES = 256 << 20 }; /* maximum size of the list of files, in bytes */

/* One call of lckv_fetch(). */
typedef struct fetch {
    const lckv_fetch_options *options;
    hub_http *http;
    char *endpoint; /* https://huggingface.co, without a slash at its end */
    char *folder, *blobs, *locks, *snapshot;
    hub_list list;
    text_buffer listing; /* the response so far */
    lckv_fetch_progress progress;
    int64_t bytes_before, received_before; /* of the files before the current one */
    double start;                          /* clock_seconds() */
} fetch;

/* ---------------------------------------------------------------- endpoint and token */

static const char *environment(const char *variable) {
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

static int make_text(char **out, const char *format, const char *a, const char *b) {
    text_buffer text = {0};
    int status = text_printf(&text, format, a, b);
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    return status;
}

static int find_endpoint(char **out) {
    const char *given = environment("HF_ENDPOINT");
    if (!given) given = "https://huggingface.co";
    bool known = !strncmp(given, "http://", 7) || !strncmp(given, "https://", 8);
    REQUIRE(known, LCKV_ERROR_ARGUMENT, "HF_ENDPOINT must begin with https:// or http://, found '%s'", given);
    TRY(make_text(out, "%s%s", given, ""));
    for (size_t length = strlen(*out); length && (*out)[length - 1] == '/'; length--) (*out)[length - 1] = '\0';
    return LCKV_OK;
}

static void trim(char *text) {
    size_t begin = 0, end = strlen(text);
    while (isspace((unsigned char)text[begin])) begin++;
    while (end > begin && isspace((unsigned char)text[end - 1])) end--;
    memmove(text, text + begin, end - begin);
    text[end - begin] = '\0';
}

static int read_token_file(char **out) {
    text_buffer path = {0};
    const char *given = environment("HF_TOKEN_PATH");
    size_t bytes;
    int status = given ? text_printf(&path, "%s", given) : hub_home_folder(&path);
    if (status >= 0 && !given) status = text_printf(&path, "/token");
    if (status >= 0 && file_exists(path.data)) status = file_read(path.data, out, &bytes);
    text_free(&path);
    return status;
}

/* Reads HF_TOKEN, its older name, or the file of huggingface-cli login. *out: NULL if there is no token. */
static int find_token(char **out) {
    const char *given = environment("HF_TOKEN");
    if (!given) given = environment("HUGGING_FACE_HUB_TOKEN");
    *out = NULL;
    TRY(given ? make_text(out, "%s%s", given, "") : read_token_file(out));
    if (!*out) return LCKV_OK;
    trim(*out);
    bool sound = true;
    for (const char *c = *out; *c; c++) sound = sound && *c > ' ' && *c <= '~';
    if (**out && sound) return LCKV_OK;
    bool empty = !**out;
    free(*out);
    *out = NULL;
    return empty ? LCKV_OK : fail(LCKV_ERROR_ARGUMENT, "the hub token contains invalid characters");
}

static int open_hub(fetch *f) {
    char *token;
    TRY(find_endpoint(&f->endpoint));
    TRY(find_token(&token));
    int status = hub_http_open(f->endpoint, token, &f->http);
    free(token);
    return status;
}

/* ---------------------------------------------------------------- the list of files */

static int listing_begin(void *user, bool partial) {
    (void)partial;
    text_free(&((fetch *)user)->listing);
    return LCKV_OK;
}

static int listing_write(void *user, const char *bytes, size_t count) {
    fetch *f = user;
    REQUIRE(count <= MAX_LISTING_BYTES - f->listing.length, LCKV_ERROR_FORMAT, "the hub's list of files exceeds %d MiB",
            MAX_LISTING_BYTES >> 20);
    return text_append(&f->listing, bytes, count);
}

static bool report(fetch *f) {
    f->progress.seconds = clock_seconds() - f->start;
    return !f->options->callback || f->options->callback(f->options->user, &f->progress);
}

static bool listing_go_on(void *user) {
    return report(user);
}

static int get_listing(fetch *f, const char *url) {
    const hub_sink sink = {listing_begin, listing_write, listing_go_on, f};
    const struct timespec wait = {.tv_nsec = 200000000};
    int status;
    hub_reply reply;
    f->progress.file = "list of files";
    for (int failures = 0;; failures++) {
        status = hub_http_get(f->http, url, 0, &sink, &reply);
        if (status >= 0 || !reply.transient || failures >= f->options->retries) break;
        nanosleep(&wait, NULL);
    }
    TRY(status);
    TRY(hub_list_read(f->listing.data ? f->listing.data : "", f->listing.length, url, &f->list));
    text_free(&f->listing);
    return LCKV_OK;
}

static int list_files(fetch *f) {
    const lckv_fetch_options *o = f->options;
    text_buffer url = {0};
    int status = text_printf(&url, "%s/api/%s/%s/revision/", f->endpoint, o->dataset ? "datasets" : "models", o->name);
    if (status >= 0) status = hub_quote(&url, o->revision, false);
    if (status >= 0) status = text_printf(&url, "?blobs=true");
    if (status >= 0) status = get_listing(f, url.data);
    text_free(&url);
    TRY(status);
    hub_list_filter(&f->list, o->include, o->include_count, o->exclude, o->exclude_count);
    REQUIRE(f->list.count, LCKV_ERROR_FILE, "'%s' has no file%s", o->name,
            o->include_count || o->exclude_count ? " that matches the patterns" : "");
    return LCKV_OK;
}

/* ---------------------------------------------------------------- the cache */

static int make_folders(fetch *f) {
    const char *name = f->options->name, *slash = strchr(name, '/');
    text_buffer cache = {0}, folder = {0};
    int status = hub_cache_folder(&cache);
    if (status >= 0)
        status = text_printf(&folder, "%s--%.*s--%s", f->options->dataset ? "datasets" : "models", (int)(slash - name),
                             name, slash + 1);
    if (status >= 0) status = make_text(&f->folder, "%s/%s", cache.data, folder.data);
    if (status >= 0) status = make_text(&f->locks, "%s/.locks/%s", cache.data, folder.data);
    if (status >= 0) status = make_text(&f->blobs, "%s/%s", f->folder, "blobs");
    if (status >= 0) status = make_text(&f->snapshot, "%s/snapshots/%s", f->folder, f->list.commit);
    if (status >= 0) status = folder_create(f->blobs);
    if (status >= 0) status = folder_create(f->locks);
    if (status >= 0) status = folder_create(f->snapshot);
    text_free(&cache);
    text_free(&folder);
    return status;
}

static int64_t bytes_there(const fetch *f, const hub_file *file) {
    static const char *const ENDS[] = {"", ".incomplete"};
    char path[4096];
    struct stat info;
    for (int i = 0; i < 2; i++) {
        int length = snprintf(path, sizeof path, "%s/%s%s", f->blobs, file->blob, ENDS[i]);
        if (length < (int)sizeof path && stat(path, &info) == 0) return info.st_size;
    }
    return 0;
}

/* Fails before the first byte if the disk has too little space. */
static int need_space(const fetch *f) {
    int64_t missing = 0;
    for (int64_t i = 0; i < f->list.count; i++) {
        const hub_file *file = &f->list.files[i];
        int64_t there = bytes_there(f, file);
        if (there < file->bytes) missing += file->bytes - there;
    }
    struct statvfs disk;
    if (statvfs(f->blobs, &disk) < 0) return LCKV_OK; /* unknown; writing will fail if it is full */
    double available = (double)disk.f_bavail * (double)disk.f_frsize;
    REQUIRE((double)missing <= available, LCKV_ERROR_FILE,
            "not enough disk space: %.2f GB required in '%s', %.2f GB available", 1e-9 * (double)missing, f->blobs,
            1e-9 * available);
    return LCKV_OK;
}

/* Creates the link, and replaces whatever has its name, unless it is already correct. */
static int make_link(const char *target, const char *path) {
    char found[1024];
    ssize_t length = readlink(path, found, sizeof found);
    bool is_there = length == (ssize_t)strlen(target) && !memcmp(found, target, (size_t)length);
    return is_there ? LCKV_OK : file_link(target, path);
}

static int link_file(const fetch *f, const hub_file *file) {
    text_buffer target = {0};
    char *path = NULL;
    int status = text_printf(&target, "../../");
    for (const char *c = file->path; *c && status >= 0; c++)
        if (*c == '/') status = text_printf(&target, "../");
    if (status >= 0) status = text_printf(&target, "blobs/%s", file->blob);
    if (status >= 0) status = make_text(&path, "%s/%s", f->snapshot, file->path);
    if (status >= 0) status = folder_create_parent(path);
    if (status >= 0) status = make_link(target.data, path);
    text_free(&target);
    free(path);
    return status;
}

static int write_reference(const fetch *f) {
    char *path, *folder;
    if (!strcmp(f->options->revision, f->list.commit)) return LCKV_OK;
    TRY(make_text(&folder, "%s/%s", f->folder, "refs"));
    int status = make_text(&path, "%s/%s", folder, f->options->revision);
    free(folder);
    TRY(status);
    status = folder_create_parent(path);
    if (status >= 0) status = file_replace(path, f->list.commit, 40);
    free(path);
    return status;
}

/* ---------------------------------------------------------------- file by file */

static bool on_report(void *user, int64_t bytes, int64_t received) {
    fetch *f = user;
    f->progress.bytes = f->bytes_before + bytes;
    f->progress.received_bytes = f->received_before + received;
    return report(f);
}

static int bring_file(fetch *f, const hub_file *file) {
    const lckv_fetch_options *o = f->options;
    const hub_blobs where = {f->http, f->blobs, f->locks, o->retries, on_report, f};
    text_buffer url = {0};
    f->progress.file = file->path;
    int status =
        text_printf(&url, "%s/%s%s/resolve/%s/", f->endpoint, o->dataset ? "datasets/" : "", o->name, f->list.commit);
    if (status >= 0) status = hub_quote(&url, file->path, true);
    if (status >= 0) status = hub_blob_bring(&where, file, url.data);
    if (status >= 0) status = link_file(f, file);
    f->bytes_before += file->bytes;
    f->received_before = f->progress.received_bytes;
    text_free(&url);
    return status;
}

static int bring_files(fetch *f) {
    f->progress.files = f->list.count;
    f->progress.total_bytes = f->list.bytes;
    f->start = clock_seconds();
    for (int64_t i = 0; i < f->list.count; i++) {
        f->progress.file_index = i;
        TRY(bring_file(f, &f->list.files[i]));
    }
    return LCKV_OK;
}

static int fetch_all(fetch *f) {
    TRY(open_hub(f));
    TRY(list_files(f));
    TRY(make_folders(f));
    TRY(need_space(f));
    TRY(bring_files(f));
    return write_reference(f);
}

/* ---------------------------------------------------------------- public */

/* Branches may contain slashes (refs/pr/1). Names that git rejects are rejected, because they could leave refs/. */
static bool is_revision(const char *revision) {
    size_t length = strlen(revision);
    if (!length || length > 250 || revision[0] == '/' || revision[length - 1] == '/') return false;
    if (strstr(revision, "..") || strstr(revision, "//") || strstr(revision, "/.") || revision[0] == '.') return false;
    for (const char *c = revision; *c; c++)
        if (*c <= ' ' || *c > '~' || strchr("~^:?*[\\", *c)) return false;
    return true;
}

void lckv_fetch_options_init(lckv_fetch_options *options, size_t struct_size) {
    const lckv_fetch_options defaults = {.revision = "main", .retries = 5};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

static void hand_out(fetch *f, lckv_fetch_result *result) {
    *result = (lckv_fetch_result){.folder = f->snapshot,
                                  .files = f->list.count,
                                  .bytes = f->list.bytes,
                                  .received_bytes = f->progress.received_bytes};
    memcpy(result->commit, f->list.commit, sizeof result->commit);
    f->snapshot = NULL;
}

int lckv_fetch(const lckv_fetch_options *given, lckv_fetch_result *result) {
    lckv_fetch_options taken;
    const lckv_fetch_options *options = &taken;
    *result = (lckv_fetch_result){0};
    TRY(OPTIONS_TAKE(&taken, given, lckv_fetch_defaults));
    REQUIRE(options->name && hub_name_allowed(options->name), LCKV_ERROR_ARGUMENT,
            "expected a repository name of the form ORG/NAME, found '%s'", options->name ? options->name : "");
    REQUIRE(options->revision && is_revision(options->revision), LCKV_ERROR_ARGUMENT,
            "invalid revision '%s': expected a branch, tag or commit", options->revision ? options->revision : "");
    fetch f = {.options = options};
    f.start = clock_seconds();
    int status = fetch_all(&f);
    if (status >= 0) hand_out(&f, result);
    hub_http_close(f.http);
    hub_list_free(&f.list);
    text_free(&f.listing);
    free(f.endpoint);
    free(f.folder);
    free(f.blobs);
    free(f.locks);
    free(f.snapshot);
    return status;
}
