/* The layer map: a description of each layer, the KV slots, and the order in which layers run (docs/model.md).
 *
 * `layer_types` such as "0_6_6_6_6_6_6_7" has one entry per layer: the layer whose keys and values it attends to. An
 * entry "2:5" takes the keys of layer 2 and the values of layer 5. A trailing `s` gives the layer a sliding window.
 *
 * A layer whose keys or values some layer attends to owns a KV slot; slots are numbered from the lowest owner up. A
 * layer with a source above it is a lookup: it cannot see its own token's KV, so it is strictly causal. */
#ifndef CONFIG_LAYER_MAP_H
#define CONFIG_LAYER_MAP_H

#include "base/status.h"

enum { LAYER_MAP_MAX_LAYERS = 4096, PLAN_MAX_STEPS = 1 << 20 };

/* RMSNorms of a layer. */
enum { LAYER_NORM_INPUT = 1, LAYER_NORM_MLP = 2, LAYER_NORM_Q = 4, LAYER_NORM_K = 8 };

/* What a layer consists of. All code that depends on the kind of layer reads it here. */
typedef struct layer_description {
    /* From layer_types or its equivalent. */
    int k_source, v_source; /* layers whose keys and values it attends to */
    int64_t window;         /* position t attends to t - window + 1 .. t; 0: to all positions up to t */
    bool strict;            /* position t does not attend to itself: lookups, and every layer with force_nodiag */

    /* Sizes and parts; 0 until layer_map_describe(). */
    int heads, kv_heads, head_dim; /* heads is a multiple of kv_heads; head_dim is even */
    int64_t intermediate_size;     /* width of the MLP */
    unsigned norms;                /* LAYER_NORM_INPUT | ... */
    float attention_scale;         /* factor of the scores */

    /* Of a rank that has a part of the layer (model/ranks/rank_part.h): the sizes of the whole layer, and where
     * the part begins. Without ranks the part is the whole. */
    int all_heads, all_kv_heads, first_head, first_kv_head;
    int64_t all_intermediate, first_intermediate;
    bool copies_kv; /* a lower rank has the same KV heads */

    /* Derived from the sources of all layers. */
    bool looks_up;      /* a source lies above it */
    int slot;           /* slot that it owns; -1: none */
    int k_slot, v_slot; /* slots that it reads */
} layer_description;

/* The stored keys, values or both of one layer. */
typedef struct slot_description {
    int layer;          /* its owner */
    bool keys, values;  /* which of them are stored: those that some layer reads */
    bool windowed;      /* a cache may drop rows before the window of all its readers */
    int64_t max_window; /* the longest window of a reader, if windowed */
} slot_description;

typedef struct layer_map {
    int layers;
    layer_description *layer; /* [layers] */
    int slots;
    slot_description *slot; /* [slots] by ascending layer */
    int loops;              /* maximal ranges of layers that are iterated; 0: the model runs in one pass */
} layer_map;

/* Reads layer_types. `window`: of entries with an `s`, in tokens; 0: `s` is an error. `force_nodiag` makes every layer
 * strict. An error quotes the entry. On success the caller owns *out until layer_map_free(); on failure *out is all
 * zeros. */
int layer_map_parse(const char *text, int layers, int64_t window, bool force_nodiag, layer_map *out);

/* Every layer reads its own KV. `windows` [layers], 0 for none; NULL: no windows. */
int layer_map_plain(const int64_t *windows, int layers, bool force_nodiag, layer_map *out);

/* Takes sizes and parts of each layer from `parts` [layers] (the second group of fields). A layer must have the KV
 * heads and the head size of its sources, else LCKV_ERROR_FORMAT. */
int layer_map_describe(layer_map *map, const layer_description *parts);

int layer_map_copy(const layer_map *map, layer_map *out);
void layer_map_free(layer_map *map);

/* Back into layer_types; release with free(). */
int layer_map_format(const layer_map *map, char **out);

/* The same sources. */
bool layer_map_same_sources(const layer_map *a, const layer_map *b);

/* Whether some layer attends to the keys, or the values, of `layer`. */
bool layer_map_stores_keys(const layer_map *map, int layer);
bool layer_map_stores_values(const layer_map *map, int layer);

/* Width of the keys and values of one token that the layer computes: kv_heads * head_dim. */
int64_t layer_kv_width(const layer_description *layer);
/* Widths of a row of the slot; 0 for what it does not store. */
int64_t layer_map_k_width(const layer_map *map, int slot);
int64_t layer_map_v_width(const layer_map *map, int slot);

/* One iteration of the layers first..last (both inclusive). Every iteration of a loop starts from the same hidden
 * states; only the committing one passes its own on. Layers outside loops run once, with gradient, and commit. */
typedef struct plan_step {
    int first, last;
    bool with_grad, commit;
    bool in_loop;
    int iteration; /* index of the iteration within its loop, from 0; 0 outside */
} plan_step;

typedef struct plan {
    plan_step *steps;
    int count;
} plan;

/* Loops run forward_passes (m >= 0) iterations without gradient, then backward_passes (b >= 1) with it. On success the
 * caller owns *out until plan_free(); on failure *out is all zeros. */
int plan_make(const layer_map *map, int forward_passes, int backward_passes, plan *out);
void plan_free(plan *plan);

#endif
