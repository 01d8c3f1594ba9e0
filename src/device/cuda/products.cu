/* Matrix products by cuBLASLt. Its recommendation for a shape is requested once and cached.
 *
 * cuBLASLt is column-major: a row-major matrix is its transpose there. Therefore c = A B is requested as c^T = B^T
 * A^T, and a factor that is not transposed here is not transposed there either. */
#include "device/cuda/groups.h"
#include "device/cuda/products.h"

#include <cublasLt.h>

#include <stdlib.h>
#include <string.h>

enum { KEPT = 1024, WORKSPACE_BYTES = 32 << 20 };

/* All values on which a recommendation depends. */
struct key {
    int64_t rows, cols, depth;
    int operand, result; /* cudaDataType */
    int a_transposed, b_transposed, add, has_bias, has_term, has_twin;
    uint32_t a_aligned, b_aligned, c_aligned, bias_aligned, term_aligned; /* bytes */
};

struct recommendation {
    bool known;
    struct key key;
    cublasLtMatmulAlgo_t algorithm;
};

struct cuda_products {
    cublasLtHandle_t handle;
    void *workspace;
    struct recommendation kept[KEPT]; /* each at the hash of its key, replacing what was there */
};

static int failed(const device *d, const char *call, cublasStatus_t status) {
    return fail(LCKV_ERROR_DEVICE, "%s: %.*s: %s", d->name, (int)strcspn(call, "("), call,
                cublasLtGetStatusString(status));
}

#define LT_TRY(d, call)                                                                                                \
    do {                                                                                                               \
        cublasStatus_t status_lt_ = (call);                                                                            \
        if (status_lt_ != CUBLAS_STATUS_SUCCESS) return failed((d), #call, status_lt_);                                \
    } while (0)

int cuda_products_open(device *d) {
    struct cuda_state *s = cuda_state_of(d);
    s->products = (struct cuda_products *)calloc(1, sizeof *s->products);
    REQUIRE(s->products != NULL, LCKV_ERROR_MEMORY, "no memory for the table of products");
    LT_TRY(d, cublasLtCreate(&s->products->handle));
    return d->memory.alloc(d, WORKSPACE_BYTES, &s->products->workspace);
}

void cuda_products_close(device *d) {
    struct cuda_products *own = cuda_state_of(d)->products;
    if (own == NULL) return;
    if (own->handle) cublasLtDestroy(own->handle);
    cudaFree(own->workspace);
    free(own);
}

/* ---------------------------------------------------------------- what is asked for */

static cudaDataType data_type(dtype type) {
    return type == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
}

/* The largest power of two, up to 256, that divides the address. */
static uint32_t alignment(view v) {
    uintptr_t at = (uintptr_t)v.data;
    uintptr_t lowest = at & (~at + 1);
    return lowest > 256 || lowest == 0 ? 256 : (uint32_t)lowest;
}

static struct key key_of(const struct cuda_product *p) {
    struct key key;
    memset(&key, 0, sizeof key); /* keys are compared as bytes */
    key.rows = p->c.rows;
    key.cols = p->c.cols;
    key.depth = p->a_transposed ? p->a.rows : p->a.cols;
    key.operand = data_type(p->a.type);
    key.result = data_type(p->c.type);
    key.a_transposed = p->a_transposed;
    key.b_transposed = p->b_transposed;
    key.add = p->add;
    key.a_aligned = alignment(p->a);
    key.b_aligned = alignment(p->b);
    key.c_aligned = alignment(p->c);
    key.has_bias = p->bias.data != NULL;
    key.bias_aligned = alignment(p->bias);
    key.has_term = p->term.data != NULL;
    key.term_aligned = alignment(p->term);
    key.has_twin = p->b_twin != NULL;
    if (p->b_twin) {
        view b = p->b, c = p->c;
        b.data = (void *)p->b_twin, c.data = p->c_twin;
        key.b_aligned = alignment(b) < key.b_aligned ? alignment(b) : key.b_aligned;
        key.c_aligned = alignment(c) < key.c_aligned ? alignment(c) : key.c_aligned;
    }
    return key;
}

/* FNV-1a */
static unsigned hash_of(const struct key *key) {
    const unsigned char *bytes = (const unsigned char *)key;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ bytes[i]) * 16777619u;
    return (hash ^ hash >> 16) % KEPT;
}

/* The problem in cuBLASLt's terms: its first factor is our b, its second one our a. */
struct problem {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t b, a, c;
};

/* `twin`: the matrix of the second product of a pair. */
static int layout(const device *d, view v, const struct cuda_product *p, const void *twin,
                  cublasLtMatrixLayoutOpaque_t *out) {
    LT_TRY(d, cublasLtMatrixLayoutInit(out, data_type(v.type), (uint64_t)v.cols, (uint64_t)v.rows, v.cols));
    if (!p->b_twin) return LCKV_OK;
    int32_t count = 2;
    int64_t offset = ((const char *)twin - (const char *)v.data) / (int64_t)cuda_bytes(v.type);
    LT_TRY(d, cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
    LT_TRY(d,
           cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset));
    return LCKV_OK;
}

static int set(const device *d, struct problem *out, cublasLtMatmulDescAttributes_t what, const void *value,
               size_t bytes) {
    LT_TRY(d, cublasLtMatmulDescSetAttribute(&out->product, what, value, bytes));
    return LCKV_OK;
}

static int describe(const device *d, const struct cuda_product *p, struct problem *out) {
    cublasOperation_t transpose = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    LT_TRY(d, cublasLtMatmulDescInit(&out->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (p->b_transposed) TRY(set(d, out, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
    if (p->a_transposed) TRY(set(d, out, CUBLASLT_MATMUL_DESC_TRANSB, &transpose, sizeof transpose));
    if (p->bias.data) {
        TRY(set(d, out, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        TRY(set(d, out, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias.data, sizeof p->bias.data));
    }
    TRY(layout(d, p->b, p, p->b_twin, &out->b));
    TRY(layout(d, p->a, p, p->a.data, &out->a));
    return layout(d, p->c, p, p->c_twin, &out->c);
}

/* ---------------------------------------------------------------- recommendations */

static int prefer(const device *d, cublasLtMatmulPreferenceOpaque_t *preference,
                  cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t bytes) {
    LT_TRY(d, cublasLtMatmulPreferenceSetAttribute(preference, what, value, bytes));
    return LCKV_OK;
}

/* Partial sums may be added through the workspace, in their order, but not in place in any order. */
static int set_preferences(const device *d, const struct key *key, cublasLtMatmulPreferenceOpaque_t *out) {
    size_t workspace = WORKSPACE_BYTES;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    LT_TRY(d, cublasLtMatmulPreferenceInit(out));
    TRY(prefer(d, out, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    TRY(prefer(d, out, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions));
    TRY(prefer(d, out, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &key->b_aligned, sizeof key->b_aligned));
    TRY(prefer(d, out, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &key->a_aligned, sizeof key->a_aligned));
    TRY(prefer(d, out, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key->has_term ? &key->term_aligned : &key->c_aligned,
               sizeof key->c_aligned));
    return prefer(d, out, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &key->c_aligned, sizeof key->c_aligned);
}

static int ask(device *d, struct problem *problem, const struct key *key, struct recommendation *out) {
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    TRY(set_preferences(d, key, &preference));
    LT_TRY(d, cublasLtMatmulAlgoGetHeuristic(cuda_state_of(d)->products->handle, &problem->product, &problem->b,
                                             &problem->a, &problem->c, &problem->c, &preference, 1, &result, &found));
    REQUIRE(found > 0, LCKV_ERROR_DEVICE, "%s: cuBLASLt has no product of [%lld, %lld] by [%lld, %lld]", d->name,
            (long long)key->rows, (long long)key->depth, (long long)key->depth, (long long)key->cols);
    out->known = true;
    out->key = *key;
    out->algorithm = result.algo;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- products */

enum { THREADS = 256, EACH = 4 };

/* Every row of y = bias, or 0. */
__global__ static void spread_bias(view y, view bias) {
    int64_t pieces = (y.cols + EACH - 1) / EACH, at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t row = at / pieces, c = at % pieces * EACH;
    struct cuda_four x = {};
    if (row >= y.rows) return;
    if (bias.data) x = cuda_get4(bias.data, bias.type, c, bias.cols);
    cuda_set4(cuda_row(y, row), y.type, c, y.cols, x);
}

/* A product of depth 0 is a sum over nothing: the bias, or the old value. */
static void multiply_nothing(device *d, const struct cuda_product *p) {
    int64_t threads = p->c.rows * ((p->c.cols + EACH - 1) / EACH);
    if (!p->add) spread_bias<<<cuda_blocks(threads, THREADS), THREADS, 0, cuda_stream(d)>>>(p->c, p->bias);
}

/* cuBLASLt is not called with an extent of 0, for which it guarantees nothing. */
int cuda_multiply(device *d, const struct cuda_product *p) {
    struct cuda_products *own = cuda_state_of(d)->products;
    struct key key = key_of(p);
    if (key.rows == 0 || key.cols == 0) return LCKV_OK;
    if (key.depth == 0) {
        multiply_nothing(d, p);
        return LCKV_OK;
    }
    struct recommendation *r = &own->kept[hash_of(&key)];
    struct problem problem;
    TRY(describe(d, p, &problem));
    if (!r->known || memcmp(&r->key, &key, sizeof key) != 0) TRY(ask(d, &problem, &key, r));
    const float one = 1.0f, before = p->add || p->term.data ? 1.0f : 0.0f;
    const void *term = p->term.data ? p->term.data : p->c.data;
    LT_TRY(d, cublasLtMatmul(own->handle, &problem.product, &one, p->b.data, &problem.b, p->a.data, &problem.a, &before,
                             term, &problem.c, p->c.data, &problem.c, &r->algorithm, own->workspace, WORKSPACE_BYTES,
                             cuda_stream(d)));
    return LCKV_OK;
}

int cuda_as(device *d, view v, dtype type, enum cuda_work where, view *out) {
    *out = v;
    if (v.type == type) return LCKV_OK;
    if (cuda_is_grouped(v.type)) return cuda_widen(d, 1, out, type);
    out->type = type;
    TRY(cuda_workspace(d, where, view_bytes(*out), &out->data));
    struct op_cast a = {v, *out};
    return cuda_cast(d, &a);
}
