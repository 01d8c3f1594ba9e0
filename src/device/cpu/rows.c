/* Ops that find rows through an index: embed, gather_rows, scatter_rows.
 *
 * Padding rows of a batch may have any index. An index out of range reads zeros and writes nothing. */
#include "device/cpu/blocks.h"
#include "device/cpu/groups.h"

/* Row r of `dst` = row `index` of `src`, converted; zeros if the index is out of range. */
static void copy_row(view dst, int64_t r, view src, int64_t index) {
    if (index < 0 || index >= src.rows)
        memset(cpu_row(dst, r), 0, dtype_row_bytes(dst.type, dst.cols));
    else if (cpu_is_grouped(src.type)) /* a table, whose rows become f32 */
        cpu_widen_part(cpu_row(dst, r), src, index, 0, dst.cols);
    else
        cpu_convert(dst, r * dst.cols, src, index * src.cols, dst.cols);
}

/* dst[r] = src[index[r]] */
static void copy_rows(device *d, view dst, view src, const int32_t *index) {
    int parts = cpu_row_parts(d, dst.rows, cpu_elements(dst));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(dst.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) copy_row(dst, r, src, index[r]);
    }
}

static void add_to(float *restrict sum, const float *restrict term, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += term[i];
}

/* dst[index[r]] += src[r], both f32. An index may occur several times, so threads divide the columns by cache lines:
 * one thread computes each sum, in the order of rows. */
static void add_rows(device *d, view dst, view src, const int32_t *index) {
    enum { LINE = 16 };
    int64_t lines = (dst.cols + LINE - 1) / LINE;
    int parts = cpu_parts(d, cpu_elements(src));
    if (parts > lines) parts = lines > 0 ? (int)lines : 1;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(lines, parts, part);
        int64_t first = mine.begin * LINE, end = mine.end * LINE < dst.cols ? mine.end * LINE : dst.cols;
        for (int64_t r = 0; r < src.rows; r++) {
            if (index[r] < 0 || index[r] >= dst.rows) continue;
            add_to((float *)cpu_row(dst, index[r]) + first, (const float *)cpu_row(src, r) + first, end - first);
        }
    }
}

int CPU_ENTRY(cpu_embed)(device *d, const struct op_embed *a) {
    if (!a->previous.data) {
        copy_rows(d, a->out, a->table, a->ids.data);
        return LCKV_OK;
    }
    const int32_t *ids = a->ids.data, *previous = a->previous.data, *from = a->from.data;
    for (int64_t r = 0; r < a->out.rows; r++) copy_row(a->out, r, a->table, from[r] < 0 ? ids[r] : previous[from[r]]);
    return LCKV_OK;
}

int CPU_ENTRY(cpu_embed_backward)(device *d, const struct op_embed *a) {
    if (a->dtable.data) add_rows(d, a->dtable, a->dout, a->ids.data);
    return LCKV_OK;
}

int CPU_ENTRY(cpu_gather_rows)(device *d, const struct op_gather_rows *a) {
    copy_rows(d, a->dst, a->src, a->index.data);
    return LCKV_OK;
}

int CPU_ENTRY(cpu_gather_rows_backward)(device *d, const struct op_gather_rows *a) {
    if (a->dsrc.data) add_rows(d, a->dsrc, a->ddst, a->index.data);
    return LCKV_OK;
}

int CPU_ENTRY(cpu_scatter_rows)(device *d, const struct op_scatter_rows *a) {
    const int64_t *index = a->index.data;
    view src = a->src, dst = a->dst;
    int parts = cpu_row_parts(d, src.rows, cpu_elements(src));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(src.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            if (index[r] >= 0 && index[r] < dst.rows) {
                cpu_convert(dst, index[r] * dst.cols, src, r * src.cols, src.cols);
            }
        }
    }
    return LCKV_OK;
}

int CPU_ENTRY(cpu_scatter_rows_backward)(device *d, const struct op_scatter_rows *a) {
    const int64_t *index = a->index.data;
    view dsrc = a->dsrc, ddst = a->ddst;
    if (!dsrc.data) return LCKV_OK;
    int parts = cpu_parts(d, cpu_elements(dsrc));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(dsrc.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            if (index[r] >= 0 && index[r] < ddst.rows) add_to(cpu_row(dsrc, r), cpu_row(ddst, index[r]), dsrc.cols);
        }
    }
    return LCKV_OK;
}
