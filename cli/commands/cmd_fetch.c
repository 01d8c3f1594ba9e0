/* lckv fetch: downloads a model or data set from a hub to the Hugging Face cache. */
#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "cli/output/string_json.h"
#include "commands.h"
#include "lckv.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Values of the flags. */
struct options {
    const char *name;           /* ORG/NAME */
    const char *revision;       /* branch, tag or commit */
    flag_list include, exclude; /* shell patterns of paths */
    int repo_type;              /* index of the choice: model, dataset */
    bool json;
};

#define AT(member) FLAG_INTO(struct options, member)
static const flag FLAGS[] = {
    {"name", FLAG_TEXT, NULL, "Repository", "name of the model or data set; also accepted without the flag", AT(name),
     .value = "ORG/NAME", .required = true},
    {"repo_type", FLAG_CHOICE, "model", "Repository", "type of the repository", AT(repo_type),
     .choices = "model|dataset"},
    {"revision", FLAG_TEXT, "main", "Repository", "branch, tag or commit to fetch", AT(revision)},
    {"include", FLAG_FILES, NULL, "Repository",
     "fetch only files whose path matches one of these shell patterns, such as '*.json'", AT(include),
     .value = "PATTERNS"},
    {"exclude", FLAG_FILES, NULL, "Repository", "do not fetch files whose path matches one of these shell patterns",
     AT(exclude), .value = "PATTERNS"},
    FLAG_JSON(struct options, json),
    {0},
};
static const char *const EXAMPLES[] = {
    "fetch a model; all commands then accept this name",
    "lckv fetch TinyLlama/TinyLlama-1.1B-intermediate-step-955k-token-2T",
    "fetch part of a data set",
    "lckv fetch Salesforce/wikitext --repo_type dataset --include README.md '*wikitext-103-raw-v1*'",
    NULL,
};

static const flag_table TABLE = {
    "fetch",
    "Downloads a model or data set to the Hugging Face cache (HF_HUB_CACHE, HF_HOME), where all commands find it by "
    "name, and prints its folder. HF_ENDPOINT sets the server (default https://huggingface.co); the token comes from "
    "HF_TOKEN or huggingface-cli login. Files that are complete are skipped, partial downloads are resumed, and the "
    "checksum of every file is checked.",
    "ORG/NAME [--repo_type dataset] [--revision REVISION]",
    FLAGS,
    .positional = "name",
    .takes_positional = true,
    .examples = EXAMPLES,
};

static bool show(void *user, const lckv_fetch_progress *p) {
    char done[32], total[32], speed[32], left[32];
    (void)user;
    if (!progress_due()) return !interrupted();
    double fraction = p->total_bytes ? (double)p->bytes / (double)p->total_bytes : -1;
    double rate = p->seconds > 0 ? (double)p->received_bytes / p->seconds : 0;
    human_bytes((double)p->bytes, done);
    human_bytes((double)p->total_bytes, total);
    human_bytes(rate, speed);
    human_time(rate > 0 ? (double)(p->total_bytes - p->bytes) / rate : 0, left);
    if (p->files)
        progress(fraction, "%lld/%lld  %s of %s  %s/s  %s left  %.40s", (long long)p->file_index + 1,
                 (long long)p->files, done, total, speed, left, p->file);
    else
        progress(-1, "%s", p->file);
    return !interrupted();
}

static int print_result(const lckv_fetch_result *r, bool json) {
    char size[32], received[32], files[48];
    if (!json) {
        notice("%s, %s (%s downloaded); commit %.12s", human_quantity(r->files, "file", files),
               human_bytes((double)r->bytes, size), human_bytes((double)r->received_bytes, received), r->commit);
        return print_bytes(r->folder, strlen(r->folder)) && print_bytes("\n", 1) ? EXIT_FINE : EXIT_FAILED;
    }
    json_t *object =
        json_pack("{so ss sI sI sI}", "folder", string_json(r->folder, strlen(r->folder)), "commit", r->commit, "files",
                  (json_int_t)r->files, "bytes", (json_int_t)r->bytes, "received_bytes", (json_int_t)r->received_bytes);
    bool printed = object && print_json(object);
    json_decref(object);
    return printed ? EXIT_FINE : EXIT_FAILED;
}

static int fetch(const struct options *o) {
    lckv_fetch_options options = lckv_fetch_defaults();
    lckv_fetch_result result;
    options.name = o->name;
    options.dataset = o->repo_type == 1;
    options.revision = o->revision;
    options.include = (const char *const *)o->include.items;
    options.include_count = o->include.count;
    options.exclude = (const char *const *)o->exclude.items;
    options.exclude_count = o->exclude.count;
    options.callback = show;
    progress(-1, "listing the files of %s", o->name);
    int status = lckv_fetch(&options, &result);
    if (status < 0) return library_error(TABLE.command, status);
    progress_end();
    int code = print_result(&result, o->json);
    lckv_free(result.folder);
    return code;
}

int cmd_fetch(int argc, char **argv) {
    struct options options = {0};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = fetch(&options);
    flags_free(&TABLE, &options);
    return code;
}
