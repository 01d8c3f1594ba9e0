/* strftime_now(format): datetime.now().strftime(format) in the local time zone, or with the time that the caller gives.
 */
#include "text/jinja/machine.h"

#include <string.h>

enum { MAX_DATE = 4096 };

/* Directives that Python formats itself: %f, and nothing for %z and %Z of a time without a zone. */
static int prepare_format(machine *m, value format, char out[MAX_DATE]) {
    size_t to = 0;
    for (size_t i = 0; i < format.bytes; i++) {
        if (to + 8 > MAX_DATE || !format.text[i]) return RAISE(m, "the format of strftime_now() is too long");
        bool directive = format.text[i] == '%' && i + 1 < format.bytes;
        char letter = directive ? format.text[i + 1] : 0;
        if (letter == 'f') memcpy(out + to, "000000", 6);
        if (letter == 'f') to += 6;
        if (!directive) out[to++] = format.text[i];
        if (directive && !strchr("fzZ", letter)) {
            out[to++] = '%';
            out[to++] = letter;
        }
        i += directive;
    }
    out[to] = 0;
    return LCKV_OK;
}

int strftime_now(machine *m, const call *c, value *out) {
    char format[MAX_DATE], text[2 * MAX_DATE];
    value given;
    struct tm when;
    time_t clock = time(NULL);
    TRY(argument_text(m, c->at[0], "the format of strftime_now()", &given));
    TRY(prepare_format(m, given, format));
    if (m->now)
        when = *m->now;
    else if (!localtime_r(&clock, &when))
        return RAISE(m, "strftime_now(): the clock's time is out of range");
    size_t bytes = strftime(text, sizeof text, format, &when);
    if (!bytes && *format) return RAISE(m, "the format of strftime_now() is too long");
    output o = {0};
    TRY(output_add(m, &o, text, bytes));
    *out = output_value(&o);
    return LCKV_OK;
}
