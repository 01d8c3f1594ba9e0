/* Files of a hub repository at one revision: the response of /api/models/ORG/NAME/revision/REVISION?blobs=true.
 *
 * The response is not trusted: paths that leave their folder, and digests that are not hexadecimal, are rejected. */
#ifndef HUB_LIST_H
#define HUB_LIST_H

#include "base/files/digest.h"
#include "base/status.h"

typedef struct hub_file {
    char *path; /* relative, with '/' between folders */
    int64_t bytes;
    bool large; /* stored as a large file (LFS): `blob` is the SHA-256 of the content; otherwise git's SHA-1 */
    char blob[DIGEST_TEXT]; /* digest, and name in the cache */
} hub_file;

typedef struct hub_list {
    char commit[41];
    hub_file *files;
    int64_t count, bytes;
} hub_list;

/* Parses the response. `name` is quoted in errors. Release with hub_list_free(). */
int hub_list_read(const char *text, size_t length, const char *name, hub_list *out);
void hub_list_free(hub_list *list);

/* Keeps the files whose path matches one of `include` (none: all) and none of `exclude` (fnmatch; * also matches /). */
void hub_list_filter(hub_list *list, const char *const *include, int include_count, const char *const *exclude,
                     int exclude_count);

#endif
