/* Reading task descriptions, see task.h. */
#include "eval/tasks/task.h"

#include "base/text/text_buffer.h"
#include "eval/tasks/task_builtin.h"

#include <string.h>

static bool ends_in(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && !strcmp(text + length - tail, ending);
}

static int unknown_task(const char *name) {
    text_buffer names = {0};
    int status = LCKV_OK;
    for (int i = 0; i < builtin_task_count && status >= 0; i++)
        status = text_printf(&names, "%s%s", i ? ", " : "", builtin_tasks[i].name);
    if (status >= 0)
        status =
            fail(LCKV_ERROR_ARGUMENT, "unknown task '%s'; expected %s, or a file that ends in .json", name, names.data);
    text_free(&names);
    return status;
}

static int read_description(const char *name, json_t **out) {
    if (ends_in(name, ".json")) return json_read_file(name, out);
    for (int i = 0; i < builtin_task_count; i++)
        if (!strcmp(builtin_tasks[i].name, name))
            return json_parse((const char *)builtin_tasks[i].text, builtin_tasks[i].bytes, name, out);
    return unknown_task(name);
}

/* ---------------------------------------------------------------- values */

static int read_names(const json_t *root, const char *name, const char *key, const char **out, int *count) {
    const json_t *list = json_object_get(root, key), *item;
    size_t i;
    REQUIRE(!list || json_is_array(list), LCKV_ERROR_FORMAT, "%s: '%s' should be a list of texts", name, key);
    REQUIRE(json_array_size(list) <= TASK_MAX_NAMES, LCKV_ERROR_FORMAT, "%s: '%s' has more than %d names", name, key,
            TASK_MAX_NAMES);
    json_array_foreach(list, i, item) {
        REQUIRE(json_is_string(item), LCKV_ERROR_FORMAT, "%s: '%s' should be a list of texts", name, key);
        out[i] = json_string_value(item);
    }
    *count = (int)json_array_size(list);
    return LCKV_OK;
}

static bool is_list_of_texts(const json_t *list) {
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item) if (!json_is_string(item)) return false;
    return json_is_array(list);
}

/* A list of templates, or an expression; NULL if absent. */
static int read_list(const json_t *form, const char *name, const char *key, const json_t **out) {
    *out = json_object_get(form, key);
    REQUIRE(!*out || json_is_string(*out) || is_list_of_texts(*out), LCKV_ERROR_FORMAT,
            "%s: '%s' should be a list of templates, or a field that is a list", name, key);
    return LCKV_OK;
}

static int check_form(const eval_task *task, const task_form *f) {
    bool choice = task->kind == TASK_MULTIPLE_CHOICE;
    REQUIRE(!f->where || is_list_of_texts(f->where), LCKV_ERROR_FORMAT, "%s: 'where' should be a list of field names",
            task->name);
    REQUIRE(!choice || (f->gold && (json_is_integer(f->gold) || json_is_string(f->gold))), LCKV_ERROR_FORMAT,
            "%s: 'gold' should be an integer or a field", task->name);
    REQUIRE(!choice || (f->choices && !f->text == !!f->contexts), LCKV_ERROR_FORMAT,
            "%s: multiple_choice requires 'choices', and either 'text' or 'contexts'", task->name);
    REQUIRE((!choice && !f->contexts) || f->target || f->text, LCKV_ERROR_FORMAT,
            "%s: a form with 'contexts' requires 'target'", task->name);
    REQUIRE(choice || (f->text && f->target), LCKV_ERROR_FORMAT, "%s: loglikelihood requires 'text' and 'target'",
            task->name);
    return LCKV_OK;
}

static int read_form(const json_t *form, eval_task *task) {
    task_form *f = &task->forms[task->form_count++];
    REQUIRE(json_is_object(form), LCKV_ERROR_FORMAT, "%s: a form should be an object", task->name);
    f->where = json_object_get(form, "where");
    f->gold = json_object_get(form, "gold");
    TRY(json_get_string(form, task->name, "text", NULL, &f->text));
    TRY(json_get_string(form, task->name, "target", NULL, &f->target));
    TRY(json_get_string(form, task->name, "clean", NULL, &f->clean));
    TRY(read_list(form, task->name, "contexts", &f->contexts));
    TRY(read_list(form, task->name, "choices", &f->choices));
    TRY(read_list(form, task->name, "labels", &f->labels));
    return check_form(task, f);
}

static int read_forms(eval_task *task) {
    const json_t *forms = json_object_get(task->root, "forms"), *form;
    size_t i, count = json_array_size(forms);
    REQUIRE(count >= 1 && count <= TASK_MAX_FORMS, LCKV_ERROR_FORMAT, "%s: 'forms' should be a list of 1 to %d forms",
            task->name, TASK_MAX_FORMS);
    json_array_foreach(forms, i, form) TRY(read_form(form, task));
    return LCKV_OK;
}

static int read_kind(eval_task *task) {
    const char *kind;
    TRY(json_get_string(task->root, task->name, "output_type", "multiple_choice", &kind));
    task->kind = strcmp(kind, "loglikelihood") ? TASK_MULTIPLE_CHOICE : TASK_LOGLIKELIHOOD;
    REQUIRE(task->kind == TASK_LOGLIKELIHOOD || !strcmp(kind, "multiple_choice"), LCKV_ERROR_UNSUPPORTED,
            "%s: 'output_type' should be multiple_choice or loglikelihood, found '%.40s'", task->name, kind);
    return LCKV_OK;
}

static int read_metrics(eval_task *task) {
    const char *names[TASK_MAX_NAMES];
    int count;
    TRY(read_names(task->root, task->name, "metrics", names, &count));
    for (int i = 0; i < count; i++) {
        bool choice = task->kind == TASK_MULTIPLE_CHOICE;
        bool *wanted = !strcmp(names[i], "acc")                     ? &task->acc
                       : !strcmp(names[i], "acc_norm") && choice    ? &task->acc_norm
                       : !strcmp(names[i], "perplexity") && !choice ? &task->perplexity
                                                                    : NULL;
        REQUIRE(wanted, LCKV_ERROR_UNSUPPORTED, "%s: this output_type has no metric '%.40s'", task->name, names[i]);
        *wanted = true;
    }
    REQUIRE(count, LCKV_ERROR_FORMAT, "%s: 'metrics' should name at least one", task->name);
    return LCKV_OK;
}

static int read_examples(eval_task *task) {
    const char *sampler;
    TRY(json_get_int(task->root, task->name, "num_fewshot", 0, &task->num_fewshot));
    TRY(json_get_string(task->root, task->name, "sampler", "default", &sampler));
    TRY(json_get_bool(task->root, task->name, "excludes_document", false, &task->excludes_document));
    task->first_examples = !strcmp(sampler, "first_n");
    REQUIRE(task->first_examples || !strcmp(sampler, "default"), LCKV_ERROR_UNSUPPORTED,
            "%s: 'sampler' should be default or first_n, found '%.40s'", task->name, sampler);
    REQUIRE(task->num_fewshot >= 0 && task->num_fewshot <= 1000, LCKV_ERROR_FORMAT,
            "%s: 'num_fewshot' should be 0 to 1000, found %lld", task->name, (long long)task->num_fewshot);
    return LCKV_OK;
}

static int read_task(eval_task *task, const char *name) {
    const json_t *root = task->root;
    REQUIRE(json_is_object(root), LCKV_ERROR_FORMAT, "%s: a task's description should be an object", name);
    TRY(json_get_string(root, name, "task", NULL, &task->name));
    REQUIRE(task->name, LCKV_ERROR_FORMAT, "%s: 'task' is missing", name);
    TRY(json_get_number(root, name, "version", 1, &task->version));
    TRY(json_get_int(root, name, "lines", 0, &task->lines));
    TRY(json_get_string(root, name, "description", "", &task->description));
    TRY(json_get_string(root, name, "target_delimiter", " ", &task->target_delimiter));
    TRY(json_get_string(root, name, "fewshot_delimiter", "\n\n", &task->fewshot_delimiter));
    TRY(json_get_string(root, name, "group_by", NULL, &task->group_by));
    TRY(read_names(root, name, "files", task->files, &task->file_count));
    TRY(read_names(root, name, "fewshot_files", task->fewshot_files, &task->fewshot_file_count));
    REQUIRE(task->file_count, LCKV_ERROR_FORMAT, "%s: 'files' should name at least one", name);
    REQUIRE(task->lines >= 0 && task->lines <= TASK_MAX_CHOICES, LCKV_ERROR_FORMAT, "%s: 'lines' is out of range",
            name);
    TRY(read_kind(task));
    TRY(read_metrics(task));
    TRY(read_examples(task));
    return read_forms(task);
}

int eval_task_open(const char *name, eval_task *out) {
    *out = (eval_task){0};
    TRY(read_description(name, &out->root));
    int status = read_task(out, name);
    if (status < 0) eval_task_close(out);
    return status;
}

void eval_task_close(eval_task *task) {
    json_decref(task->root);
    *task = (eval_task){0};
}
