/* Runs a target on each file of its corpus once: corpus FOLDER. FOLDER/expected has a line per file: its name, a tab,
 * and "ok" or a part of the error message. */
#include "fuzz.h"

#include "base/files/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int problems, runs;

static void complain(const char *name, const char *expected) {
    problems++;
    printf("%s: expected '%s', found '%s'\n", name, expected, *fuzz_message ? fuzz_message : "ok");
}

static void run_file(const char *folder, const char *name, const char *expected) {
    char *path, *bytes;
    size_t size;
    runs++;
    FUZZ_CHECK(path_join(folder, name, &path) >= 0);
    FUZZ_CHECK(file_read(path, &bytes, &size) >= 0);
    bool good = fuzz_run((const uint8_t *)bytes, size) >= 0, wanted = !strcmp(expected, "ok");
    if (good != wanted || (!good && !strstr(fuzz_message, expected))) complain(name, expected);
    free(bytes);
    free(path);
}

static void run_all(const char *folder, char *lines) {
    char *next;
    for (char *line = lines; *line; line = next) {
        size_t length = strcspn(line, "\n");
        next = line + length + (line[length] == '\n');
        line[length] = 0;
        char *tab = strchr(line, '\t');
        FUZZ_CHECK(tab);
        *tab = 0;
        run_file(folder, line, tab + 1);
    }
}

static int files_in(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    FUZZ_CHECK(dir);
    for (struct dirent *e; (e = readdir(dir));) count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

int main(int count, char **arguments) {
    char *path, *lines;
    size_t bytes;
    FUZZ_CHECK(count == 2 && path_join(arguments[1], "expected", &path) >= 0);
    FUZZ_CHECK(file_read(path, &lines, &bytes) >= 0);
    run_all(arguments[1], lines);
    free(lines);
    free(path);
    int others = files_in(arguments[1]) - 1 - runs;
    if (others) printf("%s: %d files that 'expected' does not name, or more than once\n", arguments[1], others);
    printf("%d files, %d problems\n", runs, problems);
    return problems || others ? 1 : 0;
}
