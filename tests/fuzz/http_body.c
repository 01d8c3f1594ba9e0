/* Fuzz target: a line with the path ("completions" or "chat"), then the body of a request. Converts it to a job for the
 * engine, without a server. */
#include "fuzz.h"

#include "serve/endpoints/completion.h"
#include "serve/endpoints/json_text.h"

#include <stdlib.h>
#include <string.h>

static const char CONFIG[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"num_attention_heads\":2,"
    "\"num_key_value_heads\":1,\"head_dim\":4,\"num_hidden_layers\":1,\"vocab_size\":16,"
    "\"max_position_embeddings\":256}";
static const char TOKENIZER[] =
    "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],\"normalizer\":null,"
    "\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\","
    "\"unk_token\":\"<s>\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\" \":3,\"ab\":4,\":\":5},\"merges\":[\"a b\"]}}";
static const char TEMPLATE[] = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
                               "{{ c | tojson }}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}";

static struct serve_options options = {.model_name = "m", .model_name_count = 1};
static struct shared all = {.suspended = SUSPENDED_INIT};
static server serving = {.options = &options, .shared = &all};
static const char *const NAMES[] = {"m"};
static lckv_tokenizer *engine_tokenizer; /* reachable for as long as the process runs */

#define CONSTANT(text) ((fuzz_part){text, sizeof text - 1})

static void start(void) {
    lckv_device *d;
    lckv_config *c;
    char error[SERVE_ERROR_BYTES];
    const char *config = fuzz_put("config.json", CONSTANT(CONFIG));
    fuzz_put("tokenizer.json", CONSTANT(TOKENIZER));
    fuzz_put("chat_template.jinja", CONSTANT(TEMPLATE));
    options.model_names = NAMES;
    options.max_body = 1 << 20;
    options.tokenizer_name = fuzz_folder();
    options.engine = lckv_engine_defaults();
    options.engine.max_num_seqs = 1;
    all.bodies = (body_budget){.max_body = 1 << 20, .max_total = 8 << 20};
    FUZZ_CHECK(lckv_device_open("cpu", 1, &d) >= 0 && lckv_config_load(config, NULL, &c) >= 0);
    FUZZ_CHECK(lckv_model_create(d, c, NULL, 1, &serving.model) >= 0);
    FUZZ_CHECK(server_open_tokenizer(&serving, error));
    FUZZ_CHECK(lckv_tokenizer_open(fuzz_folder(), &engine_tokenizer) >= 0);
    FUZZ_CHECK(worker_start(serving.model, engine_tokenizer, &options, &all.suspended, &serving.worker, error));
    lckv_config_free(c);
}

static void check(const completion *a) {
    const job *j = a->job;
    FUZZ_CHECK(j->prompt_count >= 1 && j->request.n >= 1 && j->request.max_new_tokens >= -1);
    FUZZ_CHECK(j->request.temperature >= 0 && j->request.top_p >= 0 && j->request.top_p <= 1);
    for (int i = 0; i < j->prompt_count; i++) {
        FUZZ_CHECK(j->prompts[i].count >= 1);
        for (int64_t k = 0; k < j->prompts[i].count; k++) FUZZ_CHECK(j->prompts[i].ids[k] >= 0);
    }
    for (int i = 0; i < j->request.stop_count; i++) FUZZ_CHECK(*j->request.stop[i]);
}

static bool ask(bool chat, const bytes *body, fields *f) {
    json_t *object;
    if (!fields_parse(f, body->data, body->length, &object)) return false;
    completion *a = (chat ? chat_read : completions_read)(f, &serving);
    FUZZ_CHECK(!a == f->failed);
    if (a) check(a);
    completion_free(a);
    json_decref(object);
    return !f->failed;
}

int fuzz_run(const uint8_t *data, size_t size) {
    if (!serving.worker) start();
    fuzz_part rest = fuzz_all(data, size), path = fuzz_line(&rest);
    body_state count = {.content_length = -1};
    bytes body = {0};
    fields f = {0};
    bool chat = path.size == 4 && !memcmp(path.data, "chat", 4);
    body_append(&all.bodies, &count, &body, rest.data ? rest.data : "", rest.size);
    FUZZ_CHECK(count.status != BODY_OK || body_check_parse(&all.bodies, &body) != BODY_NO_MEMORY);
    bool good = ask(chat, &body, &f);
    body_free(&all.bodies, &count, &body);
    FUZZ_CHECK(all.bodies.in_use == 0);
    json_t *message = string_json(f.message, strlen(f.message)); /* as sent to the client */
    int status = fuzz_end_with(good ? LCKV_OK : LCKV_ERROR_ARGUMENT, json_string_value(message));
    json_decref(message);
    return status;
}
