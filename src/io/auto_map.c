/* Files of auto_map, see auto_map.h. A reference is "MODULE.CLASS", or "ORG/NAME--MODULE.CLASS" for code in another
 * repository; an entry is a reference, null, or a list of these. */
#include "io/auto_map.h"

#include "base/files/file.h"
#include "base/log.h"
#include "base/text/text_buffer.h"

#include <stdlib.h>
#include <string.h>

#define IDENTIFIER "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

static int add_module(const char *module, size_t length, const char *folder, json_t *files);

/* A line of Python: "from .MODULE import ..." refers to a file in the same folder. */
static int follow_line(const char *line, const char *folder, json_t *files) {
    line += strspn(line, " \t");
    if (strncmp(line, "from", 4) != 0) return LCKV_OK;
    const char *dot = line + 4 + strspn(line + 4, " \t");
    if (dot == line + 4 || *dot != '.') return LCKV_OK;
    size_t length = strspn(dot + 1, IDENTIFIER);
    const char *after = dot + 1 + length;
    bool whole = length && (*after == ' ' || *after == '\t');
    return whole ? add_module(dot + 1, length, folder, files) : LCKV_OK;
}

static int follow_imports(const char *path, const char *folder, json_t *files) {
    char *text;
    size_t bytes;
    TRY(file_read(path, &text, &bytes));
    int status = LCKV_OK;
    for (const char *line = text; line && status >= 0;) {
        status = follow_line(line, folder, files);
        const char *end = strchr(line, '\n');
        line = end ? end + 1 : NULL;
    }
    free(text);
    return status;
}

static int add_file(const char *name, const char *folder, json_t *files) {
    if (json_object_get(files, name)) return LCKV_OK;
    char *path;
    TRY(path_join(folder, name, &path));
    int status = LCKV_OK;
    if (!file_exists(path))
        log_message(LCKV_LOG_WARNING, "%s: file not found, although the model's code (auto_map) refers to it", path);
    else if (json_object_set_new(files, name, json_true()) < 0)
        status = fail(LCKV_ERROR_MEMORY, "no memory for the name of %s", path);
    else
        status = follow_imports(path, folder, files);
    free(path);
    return status;
}

static int add_module(const char *module, size_t length, const char *folder, json_t *files) {
    text_buffer name = {0};
    int status = text_printf(&name, "%.*s.py", (int)length, module);
    if (status >= 0) status = add_file(name.data, folder, files);
    text_free(&name);
    return status;
}

static int add_reference(const char *reference, const char *folder, json_t *files) {
    if (!reference || strstr(reference, "--")) return LCKV_OK;
    size_t length = strspn(reference, IDENTIFIER);
    if (length && reference[length] == '.') return add_module(reference, length, folder, files);
    log_message(LCKV_LOG_WARNING,
                "%s: ignoring '%.100s' in auto_map: it is not the name of a Python file in this folder", folder,
                reference);
    return LCKV_OK;
}

int auto_map_files(const json_t *tree, const char *folder, json_t *files) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(tree, "auto_map"), key, value) {
        TRY(add_reference(json_string_value(value), folder, files));
        for (size_t i = 0; i < json_array_size(value); i++)
            TRY(add_reference(json_string_value(json_array_get(value, i)), folder, files));
    }
    return LCKV_OK;
}
