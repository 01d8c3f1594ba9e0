/* Download of one file of a hub repository into blobs/ of the cache: BLOB.incomplete during the download, BLOB when its
 * checksum is correct. An interrupted download is resumed; a failed connection is retried.
 *
 * File names and the lock are those of huggingface_hub, so that both programs can download the same file at the same
 * time. list.h lists the files, fetch.c makes the links that name them. */
#ifndef HUB_BLOB_H
#define HUB_BLOB_H

#include "hub/http.h"
#include "hub/list.h"

typedef struct hub_blobs {
    hub_http *http;
    const char *blobs, *locks;                                   /* existing folders */
    int retries;                                                 /* consecutive failures without progress */
    bool (*report)(void *user, int64_t bytes, int64_t received); /* of this file, so far: on disk; over the network */
    void *user;
} hub_blobs;

/* `url`: of the file's content. Errors are those of lckv_fetch(). */
int hub_blob_bring(const hub_blobs *where, const hub_file *file, const char *url);

#endif
