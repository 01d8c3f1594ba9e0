/* Download of one file, see blob.h. */
#include "hub/blob.h"

#include "base/files/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* State of a download. */
typedef struct transfer {
    const hub_blobs *where;
    const hub_file *file;
    const char *url;
    char *blob, *incomplete, *lock;
    int fd, lock_fd; /* -1: not open */
    digest digest;   /* of the first `bytes` of the incomplete file */
    int64_t bytes, received;
    bool resumed; /* the file starts with bytes of an earlier download */
} transfer;

static int transfer_fail(const transfer *t, const char *what) {
    return fail(LCKV_ERROR_FILE, "cannot %s '%s': %s", what, t->incomplete, strerror(errno));
}

static bool report(void *user) {
    const transfer *t = user;
    return !t->where->report || t->where->report(t->where->user, t->bytes, t->received);
}

static int pause_for(transfer *t, double seconds) {
    const struct timespec moment = {.tv_nsec = 50000000};
    for (; seconds > 0; seconds -= 0.05) {
        if (!report(t)) return fail(LCKV_ERROR_INTERRUPTED, "interrupted");
        nanosleep(&moment, NULL);
    }
    return LCKV_OK;
}

/* Git identifies a content by the SHA-1 of "blob SIZE", a NUL, and the content. */
static void begin_digest(transfer *t) {
    char head[32];
    digest_begin(&t->digest, t->file->large ? DIGEST_SHA256 : DIGEST_SHA1);
    int length = snprintf(head, sizeof head, "blob %lld", (long long)t->file->bytes);
    if (!t->file->large) digest_add(&t->digest, head, (size_t)length + 1);
    t->bytes = 0;
}

/* ---------------------------------------------------------------- the file so far */

static int start_over(transfer *t) {
    if (ftruncate(t->fd, 0) < 0 || lseek(t->fd, 0, SEEK_SET) < 0) return transfer_fail(t, "empty");
    t->resumed = false;
    begin_digest(t);
    return LCKV_OK;
}

static int digest_rest(transfer *t) {
    enum { PIECE = 1 << 16 };
    unsigned char piece[PIECE];
    for (;;) {
        ssize_t got = read(t->fd, piece, sizeof piece);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return transfer_fail(t, "read");
        if (got == 0) return LCKV_OK;
        digest_add(&t->digest, piece, (size_t)got);
        t->bytes += got;
        if (!report(t)) return fail(LCKV_ERROR_INTERRUPTED, "interrupted");
    }
}

static int open_incomplete(transfer *t) {
    struct stat info;
    t->fd = open(t->incomplete, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->fd < 0) return transfer_fail(t, "create");
    if (fstat(t->fd, &info) < 0) return transfer_fail(t, "read the size of");
    if (info.st_size > t->file->bytes) return start_over(t);
    begin_digest(t);
    t->resumed = info.st_size > 0;
    return digest_rest(t);
}

/* ---------------------------------------------------------------- over the network */

static int on_begin(void *user, bool partial) {
    transfer *t = user;
    return partial || !t->bytes ? LCKV_OK : start_over(t); /* a server without range support sends the whole file */
}

static int on_bytes(void *user, const char *bytes, size_t count) {
    transfer *t = user;
    REQUIRE((int64_t)count <= t->file->bytes - t->bytes, LCKV_ERROR_FORMAT,
            "'%s': the hub sent more than the expected %lld bytes", t->file->path, (long long)t->file->bytes);
    digest_add(&t->digest, bytes, count);
    t->received += (int64_t)count;
    while (count) {
        ssize_t put = write(t->fd, bytes, count);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return transfer_fail(t, "write");
        bytes += put;
        count -= (size_t)put;
        t->bytes += put;
    }
    return LCKV_OK;
}

/* Receives the rest of the file, with retries. The wait between retries grows by a factor of 4, up to 30 s. */
static int receive(transfer *t) {
    const hub_sink sink = {on_begin, on_bytes, report, t};
    double wait = 0.2;
    for (int failures = 0; t->bytes < t->file->bytes;) {
        hub_reply reply;
        int64_t before = t->bytes;
        int status = hub_http_get(t->where->http, t->url, t->bytes, &sink, &reply);
        if (status >= 0 && t->bytes < t->file->bytes)
            return fail(LCKV_ERROR_FORMAT, "the hub sent only %lld of %lld bytes of '%s'", (long long)t->bytes,
                        (long long)t->file->bytes, t->file->path);
        if (status >= 0) break;
        if (t->bytes > before) failures = 0, wait = 0.2;
        if (!reply.transient || failures++ >= t->where->retries) return status;
        log_message(LCKV_LOG_INFO, "%s; retrying", lckv_last_error());
        TRY(pause_for(t, wait));
        wait = wait < 7 ? 4 * wait : 30;
    }
    return LCKV_OK;
}

static int check_digest(transfer *t) {
    char found[DIGEST_TEXT];
    digest_end(&t->digest, found);
    if (!strcmp(found, t->file->blob)) return LCKV_OK;
    unlink(t->incomplete);
    return fail(LCKV_ERROR_FORMAT, "'%s' has the wrong checksum: expected %s %s, found %s; the file was removed",
                t->file->path, t->file->large ? "SHA-256" : "SHA-1", t->file->blob, found);
}

/* If the checksum of a resumed download is wrong, the bytes of the earlier download may be damaged: downloads the file
 * again from the start. */
static int receive_checked(transfer *t) {
    TRY(receive(t));
    digest whole = t->digest;
    char found[DIGEST_TEXT];
    digest_end(&whole, found);
    if (t->resumed && strcmp(found, t->file->blob)) {
        log_message(LCKV_LOG_WARNING, "the partial download of '%s' is damaged; downloading the file again",
                    t->file->path);
        TRY(start_over(t));
        TRY(receive(t));
    }
    return check_digest(t);
}

/* ---------------------------------------------------------------- locking */

static bool is_there(const transfer *t) {
    struct stat info;
    return stat(t->blob, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == t->file->bytes;
}

/* Waits while another process downloads the same file. */
static int take_lock(transfer *t) {
    t->lock_fd = open(t->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    REQUIRE(t->lock_fd >= 0, LCKV_ERROR_FILE, "cannot create '%s': %s", t->lock, strerror(errno));
    while (flock(t->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        REQUIRE(errno == EWOULDBLOCK || errno == EINTR, LCKV_ERROR_FILE, "cannot lock '%s': %s", t->lock,
                strerror(errno));
        TRY(pause_for(t, 0.2));
    }
    return LCKV_OK;
}

static int bring_locked(transfer *t) {
    TRY(open_incomplete(t));
    TRY(receive_checked(t));
    if (fsync(t->fd) < 0) return transfer_fail(t, "write");
    if (rename(t->incomplete, t->blob) < 0) return transfer_fail(t, "rename");
    return LCKV_OK;
}

static int bring(transfer *t) {
    if (!is_there(t)) TRY(take_lock(t));
    if (!is_there(t)) TRY(bring_locked(t)); /* another process may have downloaded it meanwhile */
    t->bytes = t->file->bytes;
    return report(t) ? LCKV_OK : fail(LCKV_ERROR_INTERRUPTED, "interrupted");
}

static int make_path(const char *folder, const char *name, const char *end, char **out) {
    text_buffer path = {0};
    int status = text_printf(&path, "%s/%s%s", folder, name, end);
    if (status >= 0) status = text_take(&path, out);
    text_free(&path);
    return status;
}

int hub_blob_bring(const hub_blobs *where, const hub_file *file, const char *url) {
    transfer t = {.where = where, .file = file, .url = url, .fd = -1, .lock_fd = -1};
    int status = make_path(where->blobs, file->blob, "", &t.blob);
    if (status >= 0) status = make_path(where->blobs, file->blob, ".incomplete", &t.incomplete);
    if (status >= 0) status = make_path(where->locks, file->blob, ".lock", &t.lock);
    if (status >= 0) status = bring(&t);
    if (t.fd >= 0) close(t.fd);
    if (t.lock_fd >= 0) close(t.lock_fd); /* releases the lock */
    free(t.blob);
    free(t.incomplete);
    free(t.lock);
    return status;
}
