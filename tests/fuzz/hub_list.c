/* Fuzz target: the hub's response about a repository. */
#include "fuzz.h"

#include "hub/list.h"

#include <string.h>

int fuzz_run(const uint8_t *data, size_t size) {
    static const char *const included[] = {"*.json"}, *const excluded[] = {"c*"};
    hub_list list;
    int status = hub_list_read(size ? (const char *)data : "", size, "org/name", &list);
    status = fuzz_end(status, !list.files && !list.count);
    for (int64_t i = 0; i < list.count; i++)
        FUZZ_CHECK(list.files[i].bytes >= 0 && list.files[i].path[0] != '/' && !strstr(list.files[i].path, "/../"));
    hub_list_filter(&list, included, 1, excluded, 1);
    hub_list_free(&list);
    return status;
}
