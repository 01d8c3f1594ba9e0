/* Memory limits of control groups; see memory_limit.h. */
#include "base/memory_limit.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

/* File names of the two versions of control groups. */
typedef struct version {
    const char *folder;                  /* folder of all groups below /sys/fs/cgroup */
    const char *limit, *used, *inactive; /* files with the limit and the usage; key of the inactive file cache */
} version;

static const version V1 = {"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
static const version V2 = {"", "memory.max", "memory.current", "inactive_file"};

static FILE *open_in(const char *folder, const char *name) {
    char path[2 * PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length < (int)sizeof path ? fopen(path, "r") : NULL;
}

/* Returns `default_value` if there is no such file, or no number in it ("max"). */
static size_t read_number(const char *folder, const char *name, size_t default_value) {
    size_t value;
    FILE *file = open_in(folder, name);
    if (!file) return default_value;
    if (fscanf(file, "%zu", &value) != 1) value = default_value;
    fclose(file);
    return value;
}

static size_t read_statistic(const char *folder, const char *key) {
    char name[64];
    size_t value, found = 0;
    FILE *file = open_in(folder, "memory.stat");
    while (file && fscanf(file, "%63s %zu", name, &value) == 2)
        if (!strcmp(name, key)) found = value;
    if (file) fclose(file);
    return found;
}

static size_t free_in_group(const char *folder, const version *v) {
    size_t limit = read_number(folder, v->limit, SIZE_MAX), used = read_number(folder, v->used, 0);
    if (limit == SIZE_MAX) return SIZE_MAX;
    size_t inactive = read_statistic(folder, v->inactive);
    used -= inactive < used ? inactive : used;
    return used < limit ? limit - used : 0;
}

/* The smallest free memory of a group and its ancestors, each of which may have a limit. */
static size_t free_in_groups(const char *root, const char *group, const version *v) {
    char folder[PATH_BYTES];
    size_t smallest = SIZE_MAX;
    int base = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s", root, v->folder);
    int length = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s", root, v->folder, group);
    if (length >= (int)sizeof folder) return smallest;
    while (length >= base) {
        size_t left = free_in_group(folder, v);
        smallest = left < smallest ? left : smallest;
        while (length > base && folder[length - 1] != '/') length--;
        folder[--length > base ? length : base] = '\0';
    }
    return smallest;
}

size_t memory_limit_left(const char *root) {
    char line[PATH_BYTES];
    size_t smallest = SIZE_MAX;
    FILE *groups = open_in(root, "proc/self/cgroup");
    while (groups && fgets(line, sizeof line, groups)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        bool is_v2 = !controllers[1];
        if (!is_v2 && strcmp(controllers + 1, "memory")) continue;
        size_t left = free_in_groups(root, group, is_v2 ? &V2 : &V1);
        smallest = left < smallest ? left : smallest;
    }
    if (groups) fclose(groups);
    return smallest;
}
