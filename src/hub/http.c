/* HTTP GET with libcurl, see http.h. */
#include "hub/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

int hub_quote(text_buffer *out, const char *text, bool slash) {
    for (; *text; text++) {
        bool plain = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *text);
        if (plain || (slash && *text == '/'))
            TRY(text_append(out, text, 1));
        else
            TRY(text_printf(out, "%%%02X", (unsigned)(unsigned char)*text));
    }
    return LCKV_OK;
}

#ifdef LCKV_CURL

#include <curl/curl.h>

struct hub_http {
    CURL *curl;
    char *endpoint, *token;
};

/* State of a request, shared by the callbacks. */
typedef struct request {
    CURL *curl;
    const hub_sink *sink;
    int64_t from;
    int status; /* result of the sink */
    bool begun;
    char error[200]; /* the hub's message (X-Error-Message) */
} request;

static bool is_body(long code) {
    return code == 200 || code == 206;
}

static long code_of(CURL *curl) {
    long code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

static int begin_body(request *r) {
    if (r->begun) return LCKV_OK;
    r->begun = true;
    long code = code_of(r->curl);
    REQUIRE(code == 200 || r->from, LCKV_ERROR_FORMAT,
            "the hub sent a partial response (206) to a request for the whole file");
    return r->sink->begin(r->sink->user, code == 206);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    request *r = user;
    (void)size;                                   /* always 1 */
    if (!is_body(code_of(r->curl))) return count; /* an error page */
    r->status = begin_body(r);
    if (r->status >= 0) r->status = r->sink->write(r->sink->user, bytes, count);
    return r->status < 0 ? CURL_WRITEFUNC_ERROR : count;
}

/* Keeps the value of X-Error-Message, without characters that are not printable ASCII. */
static size_t on_header(char *line, size_t size, size_t count, void *user) {
    static const char NAME[] = "x-error-message:";
    request *r = user;
    (void)size;
    if (count < sizeof NAME - 1 || strncasecmp(line, NAME, sizeof NAME - 1)) return count;
    size_t length = 0;
    for (size_t i = sizeof NAME - 1; i < count && length + 1 < sizeof r->error; i++)
        if (line[i] >= (length ? ' ' : '!') && line[i] <= '~') r->error[length++] = line[i];
    r->error[length] = '\0';
    return count;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    request *r = user;
    (void)a, (void)b, (void)c, (void)d;
    if (r->sink->go_on(r->sink->user)) return 0;
    r->status = fail(LCKV_ERROR_INTERRUPTED, "interrupted");
    return 1;
}

/* Options that are the same for all requests. The token is passed as curl's bearer token, which curl does not send to
 * another host, port or protocol after a redirect; a custom header would not be as safe. */
static void set_up(hub_http *http) {
    CURL *curl = http->curl;
    bool secure = !strncmp(http->endpoint, "https://", 8);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "lckv/" LCKV_VERSION);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* bytes per second, for: */
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (!http->token) return;
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
    curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, http->token);
}

int hub_http_open(const char *endpoint, const char *token, hub_http **out) {
    *out = NULL;
    hub_http *http = calloc(1, sizeof *http);
    REQUIRE(http, LCKV_ERROR_MEMORY, "no memory for a connection");
    http->curl = curl_easy_init();
    http->endpoint = strdup(endpoint);
    http->token = token ? strdup(token) : NULL;
    if (!http->curl || !http->endpoint || (token && !http->token)) {
        hub_http_close(http);
        return fail(LCKV_ERROR_MEMORY, "no memory for a connection");
    }
    set_up(http);
    *out = http;
    return LCKV_OK;
}

void hub_http_close(hub_http *http) {
    if (!http) return;
    curl_easy_cleanup(http->curl);
    free(http->endpoint);
    free(http->token);
    free(http);
}

static bool is_transient(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

/* Error for a rejected request. Without a token, the hub answers 401 also for a repository that does not exist, so that
 * private names stay hidden. */
static int refusal(const hub_http *http, const request *r, long code, const char *url) {
    const char *words = r->error[0] ? r->error : "no reason given";
    if (code == 401 && http->token)
        return fail(LCKV_ERROR_FILE, "the hub rejected the token (401, %s): %s", words, url);
    if (code == 401)
        return fail(
            LCKV_ERROR_FILE,
            "the repository does not exist or is private (401, %s): %s; for a private repository set HF_TOKEN or run "
            "huggingface-cli login",
            words, url);
    if (code == 403)
        return fail(LCKV_ERROR_FILE,
                    "the hub denied access (403, %s): %s; for a gated repository, request access on its page", words,
                    url);
    if (code == 404)
        return fail(LCKV_ERROR_FILE, "repository, revision or file not found on the hub (404, %s): %s", words, url);
    return fail(LCKV_ERROR_FILE, "the hub answered %ld (%s): %s", code, words, url);
}

static int conclude(const hub_http *http, request *r, CURLcode result, const char *detail, const char *url,
                    hub_reply *reply) {
    reply->code = code_of(http->curl);
    if (r->status < 0) return r->status;
    if (result != CURLE_OK) {
        reply->transient = is_transient(result);
        return fail(LCKV_ERROR_FILE, "network error: %s: %s", *detail ? detail : curl_easy_strerror(result), url);
    }
    reply->transient = reply->code >= 500 || reply->code == 429;
    if (!is_body(reply->code)) return refusal(http, r, reply->code, url);
    return begin_body(r); /* also for an empty body */
}

int hub_http_get(hub_http *http, const char *url, int64_t from, const hub_sink *sink, hub_reply *reply) {
    char detail[CURL_ERROR_SIZE] = "", range[32];
    CURL *curl = http->curl;
    request r = {.curl = curl, .sink = sink, .from = from};
    *reply = (hub_reply){0};
    snprintf(range, sizeof range, "%lld-", (long long)from);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_RANGE, from ? range : NULL);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &r);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &r);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    CURLcode result = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    return conclude(http, &r, result, detail, url, reply);
}

#else

int hub_http_open(const char *endpoint, const char *token, hub_http **out) {
    (void)endpoint, (void)token;
    *out = NULL;
    return fail(
        LCKV_ERROR_UNSUPPORTED,
        "lckv was built without libcurl and cannot download; use huggingface-cli download, which fills the same "
        "cache");
}

void hub_http_close(hub_http *http) {
    (void)http;
}

int hub_http_get(hub_http *http, const char *url, int64_t from, const hub_sink *sink, hub_reply *reply) {
    (void)http, (void)url, (void)from, (void)sink;
    *reply = (hub_reply){0};
    return fail(LCKV_ERROR_UNSUPPORTED, "lckv was built without libcurl");
}

#endif
