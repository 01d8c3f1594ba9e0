/* report.html, see report.h. */
#include "train/report/report.h"

#include "base/files/file.h"
#include "base/log.h"
#include "base/text/text_buffer.h"
#include "train/report/report_data.h"
#include "train/report/report_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct report {
    const history *history;
    report_labels labels;
    bool evaluated; /* in this process */
} report;

/* ---------------------------------------------------------------- the page */

static int append_part(text_buffer *b, int part, size_t from, size_t to) {
    return text_append(b, (const char *)report_parts[part].text + from, to - from);
}

/* Position of `mark` in the page, which has it exactly once. */
static size_t find_mark(const char *mark) {
    size_t length = strlen(mark), at = 0;
    while (memcmp(report_parts[0].text + at, mark, length)) at++;
    return at;
}

/* The page with its two marks replaced by the data and the script. */
static int assemble(const char *data, text_buffer *out) {
    static const char DATA[] = "<!--data-->", SCRIPT[] = "<!--script-->";
    size_t first = find_mark(DATA), second = find_mark(SCRIPT);
    TRY(append_part(out, 0, 0, first));
    TRY(text_append(out, data, strlen(data)));
    TRY(append_part(out, 0, first + sizeof DATA - 1, second));
    TRY(append_part(out, 1, 0, report_parts[1].bytes));
    return append_part(out, 0, second + sizeof SCRIPT - 1, report_parts[0].bytes);
}

static int write_page(const run_view *run, const text_buffer *page) {
    char *path;
    TRY(path_join(run->output_dir, "report.html", &path));
    int status = file_replace(path, page->data, page->length);
    free(path);
    return status;
}

static int write_report(const report *r, const run_view *run) {
    char *data;
    text_buffer page = {0};
    if (!run->do_train) return LCKV_OK;
    TRY(report_data(run, r->history, &r->labels, &data));
    int status = assemble(data, &page);
    if (status >= 0) status = write_page(run, &page);
    free(data);
    text_free(&page);
    return status;
}

/* ---------------------------------------------------------------- observing */

static int evaluated(void *self, const run_view *run, const lckv_evaluation *e) {
    report *r = self;
    (void)e;
    r->evaluated = true;
    return write_report(r, run);
}

/* The report is not part of the checkpoint: if it cannot be written, the checkpoint still succeeds. */
static int saving(void *self, const run_view *run, const char *folder) {
    (void)folder;
    int status = write_report(self, run);
    if (status != LCKV_ERROR_FILE) return status;
    log_message(LCKV_LOG_WARNING, "%s; training continues", lckv_last_error());
    return LCKV_OK;
}

/* If nothing was left to do, the report of the run that did the work stays. */
static int end(void *self, const run_view *run, const lckv_train_result *result, int status) {
    report *r = self;
    bool news = result->new_steps || r->evaluated || !run_view_has_output(run, "report.html");
    r->labels.finished = true;
    return status < 0 || !news ? LCKV_OK : write_report(r, run);
}

static void release(void *self) {
    report *r = self;
    free(r->labels.name);
    free(r->labels.command);
    free(r);
}

/* run_name, or else the last component of output_dir. */
static char *choose_name(const lckv_train_options *o) {
    if (o->run_name) return strdup(o->run_name);
    size_t end = strlen(o->output_dir), begin;
    while (end > 1 && o->output_dir[end - 1] == '/') end--;
    for (begin = end; begin > 0 && o->output_dir[begin - 1] != '/';) begin--;
    return strndup(o->output_dir + begin, end - begin);
}

int report_attach(observers *all, const history *h, const lckv_train_options *options) {
    report *r = calloc(1, sizeof *r);
    REQUIRE(r, LCKV_ERROR_MEMORY, "no memory for a report");
    r->history = h;
    r->labels.name = choose_name(options);
    if (options->command) r->labels.command = strdup(options->command);
    TRY(observers_add(all,
                      (observer){.self = r, .evaluated = evaluated, .saving = saving, .end = end, .release = release}));
    REQUIRE(r->labels.name, LCKV_ERROR_MEMORY, "no memory for a report");
    return LCKV_OK;
}
