/* Foreign flags; see foreign_flags.h. */
#include "foreign_flags.h"
#include "cli/output/output.h"

#include <ctype.h>
#include <string.h>

static bool same_word(const char *a, const char *b, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!a[i] || tolower((unsigned char)a[i]) != tolower((unsigned char)b[i])) return false;
    return !a[length];
}

/* Whether `value` is one of "a|b|c", ignoring case. */
static bool is_among(const char *value, const char *words) {
    for (;;) {
        size_t length = strcspn(words, "|");
        if (same_word(value, words, length)) return true;
        if (!words[length]) return false;
        words += length + 1;
    }
}

int foreign_check(const char *command, const foreign_flag *f, const char *value) {
    if (!f->refused || (f->accepted && is_among(value, f->accepted))) return 0;
    return usage_error(command, "--%s %s is refused: %s", f->name, value, f->refused);
}

void foreign_report(const flag_table *table, const uint64_t *given) {
    size_t index = 0;
    for (const foreign_flag *f = table->foreign; f && f->name; f++, index++)
        if (given[index / 64] >> index % 64 & 1 && f->no_effect)
            notice("--%s has no effect: %s", f->name, f->no_effect);
}
