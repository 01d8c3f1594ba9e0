/* Log-probabilities, see logprobs.h. */
#include "generate/batcher/logprobs.h"

#include "model/decoder.h"

#include <math.h>
#include <stdlib.h>

/* Maximum number of logits that exist at a time, on the device and on the host. */
enum { MAX_LOGITS = 1 << 22 };

static void keep_top(const float *logits, int64_t vocab_size, int top, lckv_logprob *out) {
    int kept = 0;
    for (int32_t id = 0; top && id < vocab_size; id++) {
        if (kept == top && !(logits[id] > out[top - 1].logprob)) continue;
        int at = kept < top ? kept++ : top - 1;
        for (; at > 0 && logits[id] > out[at - 1].logprob; at--) out[at] = out[at - 1];
        out[at] = (lckv_logprob){id, logits[id]};
    }
    for (; kept < top; kept++)
        out[kept] = (lckv_logprob){-1, -INFINITY}; /* the vocabulary has fewer tokens than `top` */
}

void logprobs_of(const float *logits, int64_t vocab_size, const logprobs_row *row) {
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < vocab_size; i++) max = logits[i] > max ? (double)logits[i] : max;
    for (int64_t i = 0; i < vocab_size; i++) sum += (double)expf(logits[i] - (float)max);
    double log_sum = max + log(sum);
    row->out[0] = (lckv_logprob){row->id, row->id < 0 ? NAN : (float)((double)logits[row->id] - log_sum)};
    keep_top(logits, vocab_size, row->top, row->out + 1);
    for (int i = 1; i <= row->top; i++) row->out[i].logprob = (float)((double)row->out[i].logprob - log_sum);
}

static int read_part(const model *m, graph *g, tensor *hidden, view index, const logprobs_row *rows, int64_t count,
                     float *logits) {
    device *d = m->device;
    int64_t vocab_size = m->config->vocab_size;
    tensor *part, *out;
    TRY(graph_gather_rows(g, hidden, index, &part));
    TRY(decoder_logits(m, g, part, &out));
    TRY(d->memory.copy_out(d, logits, out->value.data, view_bytes(out->value)));
    TRY(d->memory.wait(d));
    tensor_release(g, part);
    tensor_release(g, out);
#pragma omp parallel for num_threads(d->threads)
    for (int64_t i = 0; i < count; i++) logprobs_of(logits + i * vocab_size, vocab_size, &rows[i]);
    return LCKV_OK;
}

int logprobs_read(const model *m, graph *g, tensor *hidden, view index, int64_t first, const logprobs_row *rows,
                  int64_t count) {
    int64_t vocab_size = m->config->vocab_size, group = MAX_LOGITS / vocab_size;
    if (group < 1) group = 1;
    if (group > count) group = count;
    float *logits = malloc((size_t)(group * vocab_size) * sizeof *logits);
    REQUIRE(logits, LCKV_ERROR_MEMORY, "no memory for the logits of %lld tokens", (long long)group);
    int status = LCKV_OK;
    for (int64_t at = 0; at < count && status >= 0; at += group) {
        view part = index;
        part.data = (int32_t *)index.data + first + at;
        part.rows = count - at < group ? count - at : group;
        status = read_part(m, g, hidden, part, rows + at, part.rows, logits);
    }
    free(logits);
    return status;
}
