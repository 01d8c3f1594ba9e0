/* The program: lckv COMMAND [flags]. */
#include "lckv.h"

#include <stdio.h>

int main(void) {
    fprintf(stderr, "lckv %s\n", lckv_version());
    return 0;
}
