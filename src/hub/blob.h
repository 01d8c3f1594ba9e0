/* One file of a hub's repository, brought into blobs/ of the cache: BLOB.incomplete while it comes, BLOB once its
 * checksum is right. What is there of it is gone on with; a connection that fails is tried again.
 *
 * The names and the lock are huggingface_hub's, so that both may bring the same file at once. Leaves out: which files
 * (list.h), and the links that name them (fetch.c). */
#ifndef HUB_BLOB_H
#define HUB_BLOB_H

#include "hub/http.h"
#include "hub/list.h"

typedef struct hub_blobs {
    hub_http *http;
    const char *blobs, *locks;                                   /* folders that exist */
    int retries;                                                 /* in a row without a byte's progress */
    bool (*report)(void *user, int64_t bytes, int64_t received); /* of this file, so far: there, over the network */
    void *user;
} hub_blobs;

/* `url`: where its content is. Errors as lckv_fetch(). */
int hub_blob_bring(const hub_blobs *where, const hub_file *file, const char *url);

#endif
