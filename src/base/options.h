/* Option structs of the public interface. A program may be compiled with an older or a newer lckv.h than the library.
 * Every option struct therefore starts with `size_t struct_size`, the size in the caller's header. The library reads
 * and writes only that part; fields beyond it have their defaults.
 *
 * Add a new field at the end of its struct, and check that sizeof grows: a field in former padding would not be
 * noticed. */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include "base/status.h"

/* Fills the caller's struct of `struct_size` bytes from `defaults`, which has `known` bytes in this library. Fields
 * that this library does not know become 0. */
void options_give(void *options, size_t struct_size, const void *defaults, size_t known);

/* Copies the caller's struct over `taken`, which has `known` bytes and holds the defaults; NULL leaves them. Fields
 * that this library does not know must be 0. `filler` names the public function that fills the struct. */
int options_take(void *taken, size_t known, const void *given, const char *filler);

/* options_take() with the sizes of the type. `defaults` is the public function that fills the struct. The comparison
 * makes another type of struct a compiler warning. */
#define OPTIONS_TAKE(taken, given, defaults)                                                                           \
    (*(taken) = defaults(), (void)((given) == (taken)), options_take((taken), sizeof *(taken), (given), #defaults))

#endif
