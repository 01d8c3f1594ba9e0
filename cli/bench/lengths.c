/* Lists of numbers and of lengths, the values of flags of lckv bench. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/output/output.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_LENGTH = 1 << 28 };

static bool read_number(const char *text, char separator, int64_t least, int64_t *out, const char **rest) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    *out = number;
    *rest = end + (*end != '\0');
    return end != text && !errno && *end == separator && number >= least && number <= MAX_LENGTH;
}

int bench_numbers(const flag_list *list, const char *name, int64_t least, int64_t *numbers) {
    const char *rest;
    if (list->count > BENCH_MAX_LENGTHS)
        return usage_error("bench", "--%s: expected at most %d numbers, found %d", name, BENCH_MAX_LENGTHS,
                           list->count);
    for (int i = 0; i < list->count; i++)
        if (!read_number(list->items[i], '\0', least, &numbers[i], &rest))
            return usage_error("bench", "--%s: expected integers >= %lld, found \"%s\"", name, (long long)least,
                               list->items[i]);
    return EXIT_FINE;
}

int bench_read_lengths(const bench_options *o, bench_lengths *out, int *count) {
    const flag_list *list = &o->lengths;
    if (list->count > BENCH_MAX_LENGTHS)
        return usage_error("bench", "--lengths: expected at most %d, found %d", BENCH_MAX_LENGTHS, list->count);
    for (*count = 0; *count < list->count; ++*count) {
        bench_lengths *l = &out[*count];
        const char *rest = l->text = list->items[*count];
        if (!read_number(rest, '+', 1, &l->prompt, &rest) || !read_number(rest, '\0', 1, &l->new_tokens, &rest))
            return usage_error("bench", "--lengths: expected prompt length + new tokens such as 512+128, found \"%s\"",
                               l->text);
    }
    return EXIT_FINE;
}
