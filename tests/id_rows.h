/* Training data for tests of the program: 12 documents of 16 ids below 32, as JSON lines. */
#ifndef TESTS_ID_ROWS_H
#define TESTS_ID_ROWS_H

#include <stdio.h>

enum { ID_ROWS = 12, ID_ROW_LENGTH = 16, ID_ROWS_BYTES = 2048 };

static inline void id_rows(char text[ID_ROWS_BYTES]) {
    size_t at = 0;
    for (int row = 0; row < ID_ROWS; row++) {
        at += (size_t)snprintf(text + at, ID_ROWS_BYTES - at, "{\"input_ids\":[");
        for (int i = 0; i < ID_ROW_LENGTH; i++)
            at += (size_t)snprintf(text + at, ID_ROWS_BYTES - at, i ? ",%d" : "%d", (row * 7 + i) % 32);
        at += (size_t)snprintf(text + at, ID_ROWS_BYTES - at, "]}\n");
    }
}

#endif
