/* Endpoints that describe the server: models, health, engine state, metrics, and the web page. */
#include "serve/page.h"
#include "serve/server.h"

#include <stdio.h>

enum MHD_Result reply_field_error(const client *to, const fields *f) {
    if (f->no_memory) return reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "no_memory", f->message);
    if (f->unknown_model) return reply_error(to, MHD_HTTP_NOT_FOUND, "model", "model_not_found", f->message);
    return reply_error(to, MHD_HTTP_BAD_REQUEST, *f->param ? f->param : NULL,
                       f->too_long ? "context_length_exceeded" : NULL, f->message);
}

/* Compares a name from a request with a name of the model. A name that is not UTF-8 also matches in the form that
 * responses show. */
static bool same_name(const char *name, const char *own) {
    if (!strcmp(name, own)) return true;
    json_t *shown = string_json(own, strlen(own));
    bool same = shown && !strcmp(name, json_string_value(shown));
    json_decref(shown);
    return same;
}

bool server_has_model(const server *s, const char *name) {
    for (int i = 0; i < s->options->model_name_count; i++)
        if (same_name(name, s->options->model_names[i])) return true;
    return s->options->model_path && same_name(name, s->options->model_path);
}

static json_t *model_object(const server *s, const char *name) {
    worker_status view;
    worker_get_status(s->worker, &view);
    return json_pack("{so ss sI ss sI}", "id", string_json(name, strlen(name)), "object", "model", "created",
                     (json_int_t)s->started, "owned_by", "lckv", "max_model_len",
                     (json_int_t)view.engine.max_model_len);
}

static enum MHD_Result all_models(const server *s, const client *to) {
    json_t *list = json_array();
    for (int i = 0; i < s->options->model_name_count; i++)
        json_array_append_new(list, model_object(s, s->options->model_names[i]));
    return reply_json(to, MHD_HTTP_OK, json_pack("{ss so}", "object", "list", "data", list));
}

enum MHD_Result models_endpoint(server *s, const client *to, const char *name) {
    char message[SERVE_ERROR_BYTES], given[STRING_SHORT_BYTES], served[STRING_SHORT_BYTES];
    if (!name) return all_models(s, to);
    if (server_has_model(s, name)) return reply_json(to, MHD_HTTP_OK, model_object(s, name));
    snprintf(message, sizeof message, "model \"%s\" not found; this server serves \"%s\"", string_short(given, name),
             string_short(served, s->options->model_name));
    return reply_error(to, MHD_HTTP_NOT_FOUND, "model", "model_not_found", message);
}

enum MHD_Result health_endpoint(server *s, const client *to) {
    worker_status view;
    worker_get_status(s->worker, &view);
    if (view.failed) return reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "engine_lost", view.error);
    if (s->shared->draining)
        return reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "stopping", "the server is stopping");
    return reply_json(to, MHD_HTTP_OK, json_pack("{ss}", "status", "ok"));
}

static json_t *slots_array(const server *s) {
    int count;
    lckv_slot_usage *slots = worker_get_slots(s->worker, &count);
    json_t *array = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(
            array, json_pack("{si sI}", "layer", slots[i].layer, "bytes_used", (json_int_t)slots[i].bytes_used));
    free(slots);
    return array;
}

/* Engine state for the web page: running requests and KV memory. */
enum MHD_Result state_endpoint(server *s, const client *to) {
    worker_status v;
    worker_get_status(s->worker, &v);
    const lckv_engine_stats *e = &v.engine;
    lckv_config_info config = lckv_config_describe(lckv_model_config(s->model));
    json_t *object = json_pack("{so sb si si sI sI sI si}", "model",
                               string_json(s->options->model_name, strlen(s->options->model_name)), "chat",
                               s->chat_template != NULL, "running", e->running, "waiting", e->waiting, "max_model_len",
                               (json_int_t)e->max_model_len, "new_tokens", (json_int_t)v.metrics.new_tokens,
                               "prompt_tokens", (json_int_t)v.metrics.prompt_tokens, "layers", config.layers);
    json_t *memory =
        json_pack("{so sI sI sI sI sI}", "slots", slots_array(s), "kv_bytes_plain", (json_int_t)e->kv_bytes_plain,
                  "kv_pages", (json_int_t)e->kv_pages, "kv_pages_used", (json_int_t)e->kv_pages_used, "kv_bytes",
                  (json_int_t)e->kv_bytes, "kv_bytes_used", (json_int_t)e->kv_bytes_used);
    if (object && memory) json_object_update(object, memory);
    json_decref(memory);
    return reply_json(to, MHD_HTTP_OK, object);
}

enum MHD_Result layers_endpoint(server *s, const client *to) {
    char *svg;
    if (lckv_config_picture(lckv_model_config(s->model), LCKV_PICTURE_SVG, &svg) < 0)
        return reply_error(to, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, lckv_last_error());
    bytes content = {.data = svg, .length = strlen(svg)}; /* lckv_free() releases malloc() memory */
    return reply_bytes(to, MHD_HTTP_OK, "image/svg+xml; charset=utf-8", &content);
}

enum MHD_Result page_endpoint(server *s, const client *to) {
    (void)s;
    return reply_static(to, MHD_HTTP_OK, "text/html; charset=utf-8", (const char *)serve_pages[0].text,
                        serve_pages[0].bytes);
}

enum MHD_Result metrics_endpoint(server *s, const client *to) {
    worker_status view;
    bytes page = {0};
    int count;
    worker_get_status(s->worker, &view);
    lckv_slot_usage *slots = worker_get_slots(s->worker, &count);
    metrics_write(&view.metrics, &view.engine, slots, count, s->shared->bodies.in_use, &page);
    free(slots);
    return reply_bytes(to, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &page);
}
