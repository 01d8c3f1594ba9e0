/* What a repository of the hub holds at one revision: the answer of /api/models/ORG/NAME/revision/REVISION?blobs=true.
 *
 * The answer is not trusted: a path that leads out of its folder, or an identity that is no digest, is refused. Leaves
 * out: asking (http.h) and all else that the answer says. */
#ifndef HUB_LIST_H
#define HUB_LIST_H

#include "base/digest.h"
#include "base/status.h"

typedef struct hub_file {
    char *path; /* relative, with '/' between folders */
    int64_t bytes;
    bool large;             /* kept as a large file: `blob` is the SHA-256 of the content; else git's SHA-1 of it */
    char blob[DIGEST_TEXT]; /* also its name in the cache */
} hub_file;

typedef struct hub_list {
    char commit[41];
    hub_file *files;
    int64_t count, bytes;
} hub_list;

/* Of the answer's text. `name` is quoted in errors. Release with hub_list_free(). */
int hub_list_read(const char *text, size_t length, const char *name, hub_list *out);
void hub_list_free(hub_list *list);

/* Keeps the files whose path matches one of `include` (none: all) and none of `exclude` (fnmatch, * takes / too). */
void hub_list_filter(hub_list *list, const char *const *include, int include_count, const char *const *exclude,
                     int exclude_count);

#endif
