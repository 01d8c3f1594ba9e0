/* The limit of a device's memory, see limit.h. */
#include "device/limit.h"

int device_check_limit(const device *d, size_t bytes, size_t held, size_t limit) {
    REQUIRE(!limit || (held <= limit && bytes <= limit - held), LCKV_ERROR_MEMORY,
            "no memory for %zu bytes on %s: %zu of the %zu that it is limited to are taken", bytes, d->name, held,
            limit);
    return LCKV_OK;
}
