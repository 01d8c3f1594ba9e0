/* Option structs of the public interface; see options.h. */
#include "base/options.h"

#include <string.h>

/* Upper bound of the size of a struct. A larger struct_size is uninitialized memory. */
enum { MAX_STRUCT_BYTES = 1 << 16 };

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static void copy(void *to, const void *from, size_t shared, size_t struct_size) {
    memcpy(to, from, shared);
    memcpy(to, &struct_size, sizeof struct_size);
}

void options_give(void *options, size_t struct_size, const void *defaults, size_t known) {
    if (struct_size < sizeof struct_size) return;
    memset(options, 0, struct_size);
    copy(options, defaults, smaller(struct_size, known), struct_size);
}

static bool all_zero(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i]) return false;
    return true;
}

int options_take(void *taken, size_t known, const void *given, const char *filler) {
    size_t size;
    if (!given) return LCKV_OK;
    memcpy(&size, given, sizeof size);
    REQUIRE(size >= sizeof size && size <= MAX_STRUCT_BYTES, LCKV_ERROR_ARGUMENT,
            "options were not filled by %s(): struct_size is %zu; call it before you set fields", filler, size);
    REQUIRE(
        size <= known || all_zero((const unsigned char *)given + known, size - known), LCKV_ERROR_UNSUPPORTED,
        "an option is set that lckv %s does not have (struct_size: expected at most %zu, found %zu); use the library "
        "that belongs to your lckv.h",
        lckv_version(), known, size);
    copy(taken, given, smaller(size, known), known);
    return LCKV_OK;
}
