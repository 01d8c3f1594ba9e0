/* Pictures of a layer map: which layer reads which slot, windows, lookups, loops, and the plan.
 *
 * Layers are drawn from the bottom up, as data flows. Leaves out: sizes and memory (model_size.h, the counting
 * device). */
#ifndef CONFIG_LAYER_PICTURE_H
#define CONFIG_LAYER_PICTURE_H

#include "config/model_config.h"

/* For a terminal: one or two rows per layer in box characters, with a legend. Release with free(). */
int layer_picture_text(const model_config *config, char **out);

/* A self-contained SVG for light and dark backgrounds. Release with free(). */
int layer_picture_svg(const model_config *config, char **out);

/* The plan in words, one range of layers per line. Release with free(). */
int plan_text(const model_config *config, char **out);

/* The plan's steps: [{"first", "last", "with_grad", "commit"}], first and last inclusive. The caller owns the tree. */
int plan_json(const model_config *config, json_t **out);

/* "8 layers, 3 KV slots, 1 loop" */
int layer_picture_title(const model_config *config, char **out);

#endif
