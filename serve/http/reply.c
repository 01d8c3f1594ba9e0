/* HTTP replies, see reply.h. */
#include "reply.h"

#include "serve/endpoints/json_text.h"

#define JSON_TYPE "application/json; charset=utf-8"

enum MHD_Result reply_send(const client *to) {
    struct MHD_Response *response = to->reply->response;
    to->reply->response = NULL;
    enum MHD_Result queued = MHD_queue_response(to->connection, to->reply->status, response);
    MHD_destroy_response(response);
    return queued;
}

enum MHD_Result reply_queue(const client *to, unsigned status, const char *type, struct MHD_Response *response) {
    if (!response) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (!strncmp(type, "text/html", 9)) /* the page is one file and requests only this server */
        MHD_add_response_header(
            response, "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src "
            "'self'; img-src blob: data:; form-action 'none'; frame-ancestors 'none'");
    if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (status == MHD_HTTP_UNAUTHORIZED) MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (to->origin) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, to->origin);
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Origin");
    }
    to->reply->status = status;
    to->reply->response = response;
    return to->reply->deferred ? MHD_YES : reply_send(to);
}

enum MHD_Result reply_bytes(const client *to, unsigned status, const char *type, bytes *content) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(content->length, content->data ? content->data : (char[]){0},
                                        content->data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_MUST_COPY);
    to->reply->bytes = (int64_t)content->length;
    if (!response) bytes_free(content);
    *content = (bytes){0};
    return reply_queue(to, status, type, response);
}

enum MHD_Result reply_static(const client *to, unsigned status, const char *type, const char *content, size_t length) {
    to->reply->bytes = (int64_t)length;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, (void *)(uintptr_t)content, MHD_RESPMEM_PERSISTENT);
    return reply_queue(to, status, type, response);
}

static enum MHD_Result reply_no_memory(const client *to) {
    static const char TEXT[] =
        "{\"error\":{\"message\":\"not enough memory for the response\",\"type\":\"server_error\","
        "\"param\":null,\"code\":null}}";
    return reply_static(to, MHD_HTTP_SERVICE_UNAVAILABLE, JSON_TYPE, TEXT, sizeof TEXT - 1);
}

enum MHD_Result reply_text_as_json(const client *to, unsigned status, bytes *text) {
    if (!text->failed) return reply_bytes(to, status, JSON_TYPE, text);
    bytes_free(text);
    return reply_no_memory(to);
}

enum MHD_Result reply_json(const client *to, unsigned status, json_t *object) {
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    bytes content = {.data = text, .length = text ? strlen(text) : 0, .failed = !text};
    return reply_text_as_json(to, status, &content);
}

static const char *type_of(unsigned status) {
    switch (status) {
    case MHD_HTTP_UNAUTHORIZED:
        return "authentication_error";
    case MHD_HTTP_FORBIDDEN:
        return "permission_error";
    case MHD_HTTP_TOO_MANY_REQUESTS:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

json_t *error_object(unsigned status, const char *param, const char *code, const char *message) {
    return json_pack("{s{so ss so? ss?}}", "error", "message", string_json(message, strlen(message)), "type",
                     type_of(status), "param", param ? string_json(param, strlen(param)) : NULL, "code", code);
}

enum MHD_Result reply_error(const client *to, unsigned status, const char *param, const char *code,
                            const char *message) {
    return reply_json(to, status, error_object(status, param, code, message));
}
