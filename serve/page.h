/* The web page of page/, embedded by the build (scripts/cmake/embed.cmake). */
#ifndef SERVE_PAGE_H
#define SERVE_PAGE_H

#include <stddef.h>

typedef struct serve_page {
    const char *name;
    const unsigned char *text; /* [bytes] */
    size_t bytes;
} serve_page;

extern const serve_page serve_pages[];
extern const int serve_page_count;

#endif
