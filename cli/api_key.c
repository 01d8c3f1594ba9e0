/* The API key; see api_key.h. */
#include "api_key.h"

#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEY = 4096 };

static int read_key_file(const char *command, const char *file, char **key) {
    char text[MAX_KEY + 2], why[INPUT_REASON_BYTES];
    FILE *f = open_input(file, why);
    if (!f) return failure(command, "--api_key_file %s: %s", file, why);
    size_t length = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[length] = '\0';
    size_t line = strcspn(text, "\r\n"), rest = line + strspn(text + line, "\r\n");
    if (strlen(text) != length || text[rest] || line > MAX_KEY)
        return failure(command, "--api_key_file %s: expected one line of at most %d characters", file, MAX_KEY);
    text[line] = '\0';
    *key = need(strdup(text));
    return EXIT_FINE;
}

/* Whether the key can be sent in an Authorization header. */
static bool is_valid_in_header(const char *key) {
    size_t length = strlen(key);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)key[i] <= ' ' || (unsigned char)key[i] == 0x7f) return false;
    return length > 0;
}

int read_api_key(const char *command, const char *given, const char *file, char **key) {
    const char *variable = getenv("LCKV_API_KEY");
    *key = NULL;
    if (given && file) return usage_error(command, "--api_key and --api_key_file cannot be combined");
    if (file) {
        int code = read_key_file(command, file, key);
        if (code) return code;
    } else if (given || (variable && *variable)) {
        *key = need(strdup(given ? given : variable));
    }
    if (!*key || is_valid_in_header(*key)) return EXIT_FINE;
    free(*key);
    *key = NULL;
    return usage_error(command, "the API key must not be empty or contain blanks (from %s)",
                       file    ? "--api_key_file"
                       : given ? "--api_key"
                               : "LCKV_API_KEY");
}
