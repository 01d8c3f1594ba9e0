/* A layer map as people see it: which layer reads which slot, windows, strict reads, loops, and the plan.
 *
 * Layers lie from the bottom up, as data flows. Leaves out: sizes and memory (model_size.h, the counting device). */
#ifndef CONFIG_LAYER_PICTURE_H
#define CONFIG_LAYER_PICTURE_H

#include "config/model_config.h"

/* For a terminal: one or two rows a layer, box characters, a legend of the signs that occur. Release with free(). */
int layer_picture_text(const model_config *config, char **out);

/* A self-contained SVG, readable on light and dark. Release with free(). */
int layer_picture_svg(const model_config *config, char **out);

/* The plan in sentences, one range of layers a line. Release with free(). */
int plan_text(const model_config *config, char **out);

/* The plan's steps: [{"first", "last", "with_grad", "commit"}], first and last inclusive. The caller owns the tree. */
int plan_json(const model_config *config, json_t **out);

/* "8 layers, 3 KV slots, 1 loop" */
int layer_picture_title(const model_config *config, char **out);

#endif
