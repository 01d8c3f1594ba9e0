/* Error messages for data that is not found, see source_names.h. */
#include "data/sources/source_names.h"

#include "base/text/text_buffer.h"
#include "hub/model_path.h"

#include <errno.h>
#include <string.h>

/* Data sets that formerly had no organisation in their names, and their names today. */
static const struct {
    const char *old, *name;
} RENAMED[] = {
    {"ag_news", "fancyzhx/ag_news"},
    {"ai2_arc", "allenai/ai2_arc"},
    {"bookcorpus", "bookcorpus/bookcorpus"},
    {"boolq", "google/boolq"},
    {"c4", "allenai/c4"},
    {"cc_news", "vblagoje/cc_news"},
    {"cnn_dailymail", "abisee/cnn_dailymail"},
    {"glue", "nyu-mll/glue"},
    {"gsm8k", "openai/gsm8k"},
    {"hellaswag", "Rowan/hellaswag"},
    {"imdb", "stanfordnlp/imdb"},
    {"lambada", "cimec/lambada"},
    {"openbookqa", "allenai/openbookqa"},
    {"openwebtext", "Skylion007/openwebtext"},
    {"oscar", "oscar-corpus/oscar"},
    {"pg19", "deepmind/pg19"},
    {"piqa", "ybisk/piqa"},
    {"ptb_text_only", "ptb-text-only/ptb_text_only"},
    {"sciq", "allenai/sciq"},
    {"squad", "rajpurkar/squad"},
    {"tiny_shakespeare", "karpathy/tiny_shakespeare"},
    {"wikipedia", "wikimedia/wikipedia"},
    {"wikitext", "Salesforce/wikitext"},
    {"winogrande", "allenai/winogrande"},
    {"xsum", "EdinburghNLP/xsum"},
};

/* The name on the hub today; NULL: unknown or not renamed. */
static const char *name_today(const char *name) {
    for (size_t i = 0; i < sizeof RENAMED / sizeof *RENAMED; i++)
        if (!strcmp(RENAMED[i].old, name)) return RENAMED[i].name;
    return NULL;
}

/* Whether a name could be a data set of the hub and is not a path. */
static bool is_plain_name(const char *name) {
    return *name && *name != '.' && !strpbrk(name, "/:*?[\\ ") && !strchr(name, '.');
}

/* Adds the command that fetches the data set, or the files of a config. */
static int add_command(text_buffer *out, const char *name, const char *config_name) {
    TRY(text_printf(out, "; fetch it with: lckv fetch %s --repo_type dataset", name));
    return config_name ? text_printf(out, " --include README.md '*%s*'", config_name) : LCKV_OK;
}

static int say_where(text_buffer *out, const char *name) {
    TRY(text_printf(out, "data set '%s' not found: no such file or folder, and not in the Hugging Face cache (", name));
    TRY(hub_cache_folder(out));
    return text_printf(out, ")");
}

static int compose(text_buffer *out, const char *name, const char *config_name) {
    const char *today = name_today(name);
    TRY(say_where(out, name));
    if (hub_name_allowed(name)) return add_command(out, name, config_name);
    if (!today && !is_plain_name(name)) return LCKV_OK;
    if (!today)
        return text_printf(out, "; names on the hub have the form ORG/%s: fetch it by that name with lckv fetch", name);
    TRY(add_command(out, today, config_name));
    return text_printf(out, ", then use dataset_name %s", today);
}

int dataset_is_absent(const char *name, const char *config_name) {
    text_buffer text = {0};
    int status = compose(&text, name, config_name);
    if (status >= 0) status = fail(LCKV_ERROR_FILE, "%s", text.data);
    text_free(&text);
    return status;
}

int source_is_absent(const char *name) {
    const char *today = name_today(name);
    if (today || is_plain_name(name) || (hub_name_allowed(name) && !strchr(strchr(name, '/'), '.')))
        return fail(LCKV_ERROR_FILE,
                    "cannot open '%s': no such file or folder; for a data set of the hub, run lckv fetch %s "
                    "--repo_type dataset "
                    "and set dataset_name %s",
                    name,
                    today                    ? today
                    : hub_name_allowed(name) ? name
                                             : "ORG/NAME",
                    today                    ? today
                    : hub_name_allowed(name) ? name
                                             : "ORG/NAME");
    return fail(LCKV_ERROR_FILE, "cannot open '%s': %s", name, strerror(ENOENT));
}
