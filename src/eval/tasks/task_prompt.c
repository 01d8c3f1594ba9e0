/* Task prompts, see task_prompt.h. */
#include "eval/tasks/task_prompt.h"

#include "eval/tasks/task_template.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int fill(const char *source, const char *clean, const json_t *document, char **out) {
    text_buffer text = {0};
    *out = NULL;
    int status = task_template_render(source, document, &text);
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    TRY(status);
    return clean ? task_template_filter(clean, out) : LCKV_OK;
}

/* ---------------------------------------------------------------- lists */

static int copy_text(const json_t *item, const char *clean, char **out) {
    REQUIRE(json_is_string(item), LCKV_ERROR_FORMAT, "the document's list should contain only texts");
    *out = strdup(json_string_value(item));
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a document's text");
    return clean ? task_template_filter(clean, out) : LCKV_OK;
}

/* `source` is a list of templates, or an expression whose value is a list of texts. On failure *out [*count] has the
 * items so far, which the caller frees. */
static int fill_list(const json_t *source, const char *clean, const json_t *document, char ***out, int *count) {
    json_t *list = NULL, *item;
    size_t i;
    bool templates = json_is_array(source);
    if (!templates) TRY(task_template_value(json_string_value(source), document, &list));
    size_t size = json_array_size(templates ? source : list);
    int status = size >= 1 && size <= TASK_MAX_CHOICES
                     ? LCKV_OK
                     : fail(LCKV_ERROR_FORMAT, "expected a list of 1 to %d texts, found %zu", TASK_MAX_CHOICES, size);
    *count = 0;
    *out = calloc(size + 1, sizeof **out);
    if (!*out) status = fail(LCKV_ERROR_MEMORY, "no memory for a document's texts");
    json_array_foreach(templates ? source : list, i, item) {
        if (status < 0) break;
        char **text = &(*out)[(*count)++];
        status = templates ? fill(json_string_value(item), clean, document, text) : copy_text(item, clean, text);
    }
    json_decref(list);
    return status;
}

static void free_list(char **list, int count) {
    for (int i = 0; list && i < count; i++) free(list[i]);
    free(list);
}

/* ---------------------------------------------------------------- the correct answer */

static bool equals_label(const json_t *value, const char *label) {
    char number[32];
    if (json_is_string(value)) return !strcmp(json_string_value(value), label);
    snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    return json_is_integer(value) && !strcmp(number, label);
}

static int gold_among(const task_form *form, const json_t *document, const json_t *value, int *gold) {
    char **labels;
    int count, status = fill_list(form->labels, NULL, document, &labels, &count);
    *gold = -1;
    for (int i = count - 1; status >= 0 && i >= 0; i--)
        if (equals_label(value, labels[i])) *gold = i;
    free_list(labels, count);
    TRY(status);
    REQUIRE(*gold >= 0, LCKV_ERROR_FORMAT, "'gold' is none of the labels");
    return LCKV_OK;
}

static int gold_number(const json_t *value, int *gold) {
    const char *text = json_string_value(value);
    bool digits = text && isdigit((unsigned char)text[0]) && strspn(text, "0123456789") == strlen(text);
    REQUIRE(digits || json_is_integer(value), LCKV_ERROR_FORMAT, "'gold' should be an integer");
    long long number = digits ? strtoll(text, NULL, 10) : (long long)json_integer_value(value);
    *gold = number >= 0 && number < TASK_MAX_CHOICES ? (int)number : TASK_MAX_CHOICES;
    return LCKV_OK;
}

static int read_gold(const task_form *form, const json_t *document, task_prompt *a) {
    json_t *value;
    if (json_is_integer(form->gold))
        value = json_incref((json_t *)(uintptr_t)form->gold);
    else
        TRY(task_template_value(json_string_value(form->gold), document, &value));
    int status = form->labels ? gold_among(form, document, value, &a->gold) : gold_number(value, &a->gold);
    json_decref(value);
    TRY(status);
    REQUIRE(a->gold < a->choice_count, LCKV_ERROR_FORMAT, "'gold' is %d, but there are %d choices", a->gold,
            a->choice_count);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- forms */

static bool has_fields(const json_t *document, const json_t *names) {
    const json_t *name;
    size_t i;
    json_array_foreach(names, i, name) if (!json_object_get(document, json_string_value(name))) return false;
    return true;
}

static int find_form(const eval_task *task, const json_t *document, const task_form **out) {
    for (int i = 0; i < task->form_count; i++) {
        *out = &task->forms[i];
        if (has_fields(document, (*out)->where)) return LCKV_OK;
    }
    const json_t *where = task->forms[task->form_count - 1].where;
    return fail(LCKV_ERROR_FORMAT, "the document matches no form of the task; the last form requires the field '%s'",
                json_string_value(json_array_get(where, 0)));
}

static int fill_one_text(const task_form *form, const json_t *document, task_prompt *a) {
    a->texts = calloc(1, sizeof *a->texts);
    REQUIRE(a->texts, LCKV_ERROR_MEMORY, "no memory for a document's text");
    a->text_count = 1;
    return fill(form->text, form->clean, document, &a->texts[0]);
}

static int fill_form(const eval_task *task, const json_t *document, task_prompt *a) {
    const task_form *form;
    TRY(find_form(task, document, &form));
    if (form->target) TRY(fill(form->target, form->clean, document, &a->target));
    if (form->text)
        TRY(fill_one_text(form, document, a));
    else
        TRY(fill_list(form->contexts, form->clean, document, &a->texts, &a->text_count));
    if (task->kind == TASK_LOGLIKELIHOOD) return LCKV_OK;
    TRY(fill_list(form->choices, form->clean, document, &a->choices, &a->choice_count));
    REQUIRE(a->text_count == 1 || a->text_count == a->choice_count, LCKV_ERROR_FORMAT,
            "expected one context per choice, found %d contexts and %d choices", a->text_count, a->choice_count);
    return read_gold(form, document, a);
}

int task_prompt_make(const eval_task *task, const json_t *document, task_prompt *out) {
    *out = (task_prompt){0};
    int status = fill_form(task, document, out);
    if (status < 0) task_prompt_free(out);
    return status;
}

void task_prompt_free(task_prompt *a) {
    free_list(a->texts, a->text_count);
    free_list(a->choices, a->choice_count);
    free(a->target);
    *a = (task_prompt){0};
}

const char *task_prompt_text(const task_prompt *a) {
    return a->texts[a->text_count > 1 ? a->gold : 0];
}

const char *task_prompt_answer(const task_prompt *a) {
    return a->target ? a->target : a->choices[a->gold];
}
