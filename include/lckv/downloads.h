/* Downloads: models and data sets of the Hugging Face hub, into its cache. */
#ifndef LCKV_DOWNLOADS_H
#define LCKV_DOWNLOADS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Progress of lckv_fetch(). Pointers are valid during the callback. */
typedef struct lckv_fetch_progress {
    const char *file;           /* Current file: downloading, or waiting for another process that downloads it. */
    int64_t file_index, files;  /* Index of the current file from 0, and number of files. */
    int64_t bytes, total_bytes; /* Of all files; files that were in the cache count as downloaded. */
    int64_t received_bytes;     /* Received over the network in this call. */
    double seconds;             /* Since the first file started. */
} lckv_fetch_progress;

/* Progress callback, called at least once per file and about once per second. Return false to stop. */
typedef bool (*lckv_fetch_callback)(void *user, const lckv_fetch_progress *progress);

typedef struct lckv_fetch_options {
    size_t struct_size;   /* Size of this struct, set by lckv_fetch_defaults(). */
    const char *name;     /* ORG/NAME of the repository; required. */
    bool dataset;         /* The repository is a data set (default false: a model). */
    const char *revision; /* Branch, tag or commit (default "main"). */
    /* Shell patterns of paths, in which * also matches "/". Files are downloaded if they match one of `include` (none:
     * all files) and none of `exclude`. */
    const char *const *include;
    const char *const *exclude;
    int include_count, exclude_count; /* Number of patterns (default 0). */
    /* Retries after a lost connection without progress, after 0.2, 0.8, 3.2, 12.8 and then 30 seconds (default 5). */
    int retries;
    lckv_fetch_callback callback; /* Progress callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */
} lckv_fetch_options;

typedef struct lckv_fetch_result {
    char *folder;           /* Folder of the snapshot; free it with lckv_free(). */
    char commit[41];        /* Commit of the revision, 40 hexadecimal digits. */
    int64_t files, bytes;   /* Of the snapshot, selected files only. */
    int64_t received_bytes; /* Received over the network. */
} lckv_fetch_result;

LCKV_API void lckv_fetch_options_init(lckv_fetch_options *options, size_t struct_size);
static inline lckv_fetch_options lckv_fetch_defaults(void) {
    lckv_fetch_options options;
    lckv_fetch_options_init(&options, sizeof options);
    return options;
}

/* Downloads a model or data set into the Hugging Face cache (HF_HUB_CACHE, HF_HOME, or the default folder), in the
 * layout of huggingface_hub. The server is HF_ENDPOINT (default https://huggingface.co). The token is HF_TOKEN, or the
 * file that huggingface-cli login writes; lckv sends it to no other host.
 *
 * Files in the cache are not downloaded again. Partial files (BLOB.incomplete) are resumed, also those of
 * huggingface_hub. Every file is verified: against its SHA-256 if the hub stores it as a large file, else against git's
 * SHA-1. The reference of the revision is written when all files are complete. Two processes may download the same
 * repository at once. LCKV_ERROR_ARGUMENT: `name` or `revision` is not valid. LCKV_ERROR_FILE: no such repository or
 * revision, no permission, a network failure, or a full disk; the message says which. LCKV_ERROR_FORMAT: the hub's
 * answer is not as expected, or a checksum differs (the partial file is removed). LCKV_ERROR_UNSUPPORTED: built without
 * libcurl. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_fetch(const lckv_fetch_options *options, lckv_fetch_result *result);

#ifdef __cplusplus
}
#endif
#endif
