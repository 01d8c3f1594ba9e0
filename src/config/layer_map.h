/* The layer map: which layer reads whose keys and values, and in which order layers run (DESIGN section 1).
 *
 * `layer_types` such as "0_6_6_6_6_6_6_7" has one entry a layer: the layer whose KV it attends to, and a trailing `s`
 * where it has a sliding window. Leaves out: config.json (model_config.h) and what the window's size is.
 *
 * A layer that some entry names owns a KV slot; slots are numbered from the lowest owner up. A layer whose source lies
 * above it looks up: it cannot see its own token's KV, so it is strictly causal. */
#ifndef CONFIG_LAYER_MAP_H
#define CONFIG_LAYER_MAP_H

#include "base/status.h"

enum { LAYER_MAP_MAX_LAYERS = 4096, PLAN_MAX_STEPS = 1 << 20 };

typedef struct layer_map {
    int layers;
    int *source;         /* [layers] the layer whose KV layer i attends to */
    bool *windowed;      /* [layers] has a sliding window */
    bool *strict;        /* [layers] position t sees 0..t-1 alone: looks up, or force_nodiag */
    bool *looks_up;      /* [layers] source[i] > i */
    int *slot_of_layer;  /* [layers] the slot that layer i owns, -1 when it owns none */
    int *slot_of_source; /* [layers] the slot that layer i reads */
    int slots;
    int *layer_of_slot; /* [slots] its owner, ascending */
    int loops;          /* maximal iterated ranges; 0: the model runs in one pass */
} layer_map;

/* Reads `text`. `has_window`: the config gives a sliding_window, so that `s` may be used. `force_nodiag` makes every
 * layer strict. An error quotes the entry. On success the caller owns *out until layer_map_free(); on failure *out is
 * all zeros. */
int layer_map_parse(const char *text, int layers, bool has_window, bool force_nodiag, layer_map *out);

/* Every layer reads its own KV; `windowed` [layers] may be NULL (no windows). */
int layer_map_plain(const bool *windowed, int layers, bool force_nodiag, layer_map *out);

int layer_map_copy(const layer_map *map, layer_map *out);
void layer_map_free(layer_map *map);

/* Back into layer_types; release with free(). */
int layer_map_format(const layer_map *map, char **out);

/* All readers of the slot have sliding windows, so that a cache may forget what lies behind them. */
bool layer_map_slot_is_windowed(const layer_map *map, int slot);

/* One run of the layers first..last (both inclusive). Every run of a loop starts from the same hidden states, and only
 * the one that commits hands its own on. Layers outside loops run once, with gradient, and commit. */
typedef struct plan_step {
    int first, last;
    bool with_grad, commit;
    bool in_loop;
    int run; /* 0, 1, .. within its loop; 0 outside */
} plan_step;

typedef struct plan {
    plan_step *steps;
    int count;
} plan;

/* Loops run forward_passes (m >= 0) times without gradient, then backward_passes (b >= 1) times with it. On success the
 * caller owns *out until plan_free(); on failure *out is all zeros. */
int plan_make(const layer_map *map, int forward_passes, int backward_passes, plan *out);
void plan_free(plan *plan);

#endif
