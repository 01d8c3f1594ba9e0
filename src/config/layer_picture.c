/* The plan and the title as text; see layer_picture.h. */
#include "config/layer_picture.h"

#include "base/text/text_buffer.h"

int layer_picture_title(const model_config *config, char **out) {
    *out = NULL;
    const layer_map *map = &config->map;
    text_buffer text = {0};
    int status = text_printf(&text, "%d layer%s, %d KV slot%s, %d loop%s", map->layers, plural(map->layers), map->slots,
                             plural(map->slots), map->loops, plural(map->loops));
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    return status;
}

static int write_range(const plan_step *step, int m, int b, text_buffer *out) {
    if (step->first == step->last)
        TRY(text_printf(out, "layer %d: ", step->first));
    else
        TRY(text_printf(out, "layers %d to %d: ", step->first, step->last));
    if (!step->in_loop) return text_printf(out, "once\n");
    if (m) TRY(text_printf(out, "%d iteration%s without gradient, then ", m, plural(m)));
    return text_printf(out, "%d iteration%s with gradient\n", b, plural(b));
}

int plan_text(const model_config *config, char **out) {
    *out = NULL;
    plan ranges;
    text_buffer text = {0};
    TRY(plan_make(&config->map, 0, 1, &ranges)); /* one step per range */
    int status = LCKV_OK;
    for (int i = 0; i < ranges.count && status >= 0; i++)
        status = write_range(&ranges.steps[i], config->forward_passes, config->backward_passes, &text);
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    plan_free(&ranges);
    return status;
}

int plan_json(const model_config *config, json_t **out) {
    plan steps;
    *out = NULL;
    TRY(plan_make(&config->map, config->forward_passes, config->backward_passes, &steps));
    json_t *list = json_array();
    int errors = list ? 0 : -1;
    for (int i = 0; i < steps.count && !errors; i++) {
        const plan_step *s = &steps.steps[i];
        errors = json_array_append_new(list, json_pack("{s:i,s:i,s:b,s:b}", "first", s->first, "last", s->last,
                                                       "with_grad", (int)s->with_grad, "commit", (int)s->commit));
    }
    plan_free(&steps);
    if (errors) {
        json_decref(list);
        return fail(LCKV_ERROR_MEMORY, "no memory for a plan as JSON");
    }
    *out = list;
    return LCKV_OK;
}
