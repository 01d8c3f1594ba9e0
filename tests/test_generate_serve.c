/* lckv serve as clients see it: responses, streams, scores, errors, disconnects, shutdown. Uses a small random model
 * with a tokenizer that the test creates. */
#include "served.h"

#include <math.h>
#include <pthread.h>

static const json_t *choice(const json_t *answer, size_t i) {
    return json_array_get(json_object_get(answer, "choices"), i);
}

static const char *text_at(const json_t *answer, size_t i) {
    return json_string_value(json_object_get(choice(answer, i), "text"));
}

static json_int_t usage_of(const json_t *answer, const char *key) {
    return json_integer_value(json_object_get(json_object_get(answer, "usage"), key));
}

static json_int_t prompt_detail(const json_t *answer, const char *key) {
    const json_t *details = json_object_get(json_object_get(answer, "usage"), "prompt_tokens_details");
    return json_integer_value(json_object_get(details, key));
}

/* ---------------------------------------------------------------- responses */

static const char TEN[] = "{\"prompt\":[[1,2,3,4,5,6,7,8,9,10],[11,12,13,14,15,16,17,18,19,20]],\"max_tokens\":2}";

/* How prompts were processed is reported, for a request and in total. */
static void forms_of_prompts_are_counted(void **state) {
    const char *const forms[] = {"plan", "sequential", "auto"};
    for (int i = 0; i < 3; i++) {
        served s = SERVE(state, "--encoding", forms[i], "--cost_table", "none");
        json_t *a = ask(&s, "/v1/completions", TEN);
        assert_int_equal(usage_of(a, "prompt_tokens"), 20);
        assert_int_equal(prompt_detail(a, "sequential_tokens"), i == 1 ? 20 : 0);
        expect_metric_soon(&s, "sequential_tokens_total", i == 1 ? 20 : 0);
        expect_metric_soon(&s, "prefill_tokens_total", 20);
        json_decref(a);
        stop(&s);
    }
}

static const char GREEDY[] = "{\"prompt\":[1,260,261,262],\"max_tokens\":12,\"temperature\":0,\"ignore_eos\":true}";

static void completions_are_what_generate_writes(void **state) {
    served s = SERVE(state, "--max_num_seqs", "8");
    json_t *a = ask(&s, "/v1/completions", GREEDY);
    json_t *g = RUN_JSON(s.f, "generate", "--model_name_or_path", in(s.f, "model"), "--prompt_ids", "1,260,261,262",
                         "--length=12", "--temperature=0", "--ignore_eos");
    const json_t *sequence = json_array_get(json_object_get(g, "sequences"), 0);
    assert_string_equal(text_at(a, 0), json_string_value(json_object_get(sequence, "text")));
    assert_string_equal(json_string_value(json_object_get(choice(a, 0), "finish_reason")), "length");
    assert_string_equal(json_string_value(json_object_get(a, "object")), "text_completion");
    assert_int_equal(usage_of(a, "prompt_tokens"), 4);
    assert_int_equal(usage_of(a, "completion_tokens"), 12);
    assert_int_equal(usage_of(a, "total_tokens"), 16);
    json_decref(g);

    json_t *many = ask(&s, "/v1/completions",
                       "{\"prompt\":[[1,260,261,262],[5,6]],\"n\":2,\"max_tokens\":12,\"temperature\":0,"
                       "\"ignore_eos\":true,\"model\":\"small\"}");
    assert_int_equal(json_array_size(json_object_get(many, "choices")), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(json_integer_value(json_object_get(choice(many, (size_t)i), "index")), i);
    assert_string_equal(text_at(many, 0), text_at(a, 0)); /* the ids of the same text, in parallel with others */
    assert_string_equal(text_at(many, 1), text_at(a, 0));
    assert_string_equal(text_at(many, 2), text_at(many, 3));
    json_decref(many);
    json_decref(a);
    stop(&s);
}

/* The same number of iterations as in generate; the text differs from that with the model's own number. */
static void prompts_take_the_runs_that_are_asked_for(void **state) {
    served s = SERVE(state, "--encoding_iterations", "1");
    json_t *a = ask(&s, "/v1/completions", GREEDY);
    for (int runs = 0; runs < 2; runs++) {
        json_t *g =
            RUN_JSON(s.f, "generate", "--model_name_or_path", in(s.f, "model"), "--prompt_ids", "1,260,261,262",
                     "--length=12", "--temperature=0", "--ignore_eos", "--encoding_iterations", runs ? "1" : "0");
        const json_t *text = json_object_get(json_array_get(json_object_get(g, "sequences"), 0), "text");
        assert_int_equal(!strcmp(text_at(a, 0), json_string_value(text)), runs);
        json_decref(g);
    }
    json_decref(a);
    stop(&s);
}

/* The data of each event; the last is [DONE]. Concatenates the texts of choice 0. */
static char *join_events(const char *body, int *events, json_t **last) {
    text_buffer text = {0};
    bool done = false;
    *events = 0;
    *last = NULL;
    for (const char *at = body; (at = strstr(at, "data: ")); *events += 1) {
        const char *data = at + 6, *end = strstr(data, "\n\n");
        assert_non_null(end);
        at = end;
        done = !strncmp(data, "[DONE]", 6);
        if (done) continue;
        json_decref(*last);
        OK(json_parse(data, (size_t)(end - data), "event", last));
        const char *piece = text_at(*last, 0);
        if (piece) OK(text_append(&text, piece, strlen(piece)));
    }
    assert_true(done);
    char *joined;
    OK(text_take(&text, &joined));
    return joined;
}

static void streams_say_the_same(void **state) {
    served s = SERVE(state, "--max_num_seqs", "8");
    json_t *whole = ask(&s, "/v1/completions", GREEDY), *last;
    http_answer a = http_do(s.port, "POST", "/v1/completions", "",
                            "{\"prompt\":[1,260,261,262],\"max_tokens\":12,\"temperature\":0,\"ignore_eos\":true,"
                            "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    int events;
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "text/event-stream"));
    char *text = join_events(a.body, &events, &last);
    assert_string_equal(text, text_at(whole, 0));
    assert_true(events >= 3);
    assert_int_equal(usage_of(last, "completion_tokens"), 12); /* the last event before [DONE] */
    free(text);
    http_free(&a);
    json_decref(last);
    json_decref(whole);
    stop(&s);
}

static int begin(const served *s, const char *body) {
    int fd = http_connect(s->port);
    assert_true(fd >= 0 && http_ask(fd, "POST", "/v1/completions", "", body, strlen(body)));
    return fd;
}

/* With the prompt in the response; its chunks are written by another thread. */
static void streams_echo_prompts(void **state) {
    enum { ROUNDS = 5 };
    static const char ECHO[] = "{\"prompt\":[1,260,261,262],\"max_tokens\":%d,\"temperature\":0,\"ignore_eos\":true,"
                               "\"echo\":true,\"stream\":%s}";
    served s = SERVE(state, "--max_num_seqs", "8", WRITES_ON);
    char body[256], longer[256], byte;
    snprintf(body, sizeof body, ECHO, 400, "false");
    json_t *whole = ask(&s, "/v1/completions", body), *last;
    snprintf(body, sizeof body, ECHO, 400, "true");
    snprintf(longer, sizeof longer, ECHO, atoi(MANY_TOKENS), "true");
    for (int i = 0; i < ROUNDS; i++) {
        http_answer a = http_do(s.port, "POST", "/v1/completions", "", body);
        int events;
        char *text = join_events(a.body, &events, &last);
        assert_string_equal(text, text_at(whole, 0));
        free(text);
        http_free(&a);
        json_decref(last);
        int fd = begin(&s, longer); /* one that disconnects in the middle */
        assert_int_equal(recv(fd, &byte, 1, 0), 1);
        close(fd);
    }
    expect_metric_soon(&s, "requests_abandoned_total", ROUNDS);
    expect_metric_soon(&s, "samples_running", 0);
    json_decref(whole);
    stop(&s);
}

/* "1,260,261,..": `count` ids. */
static void write_ids(char *to, int count) {
    for (int i = 0; i < count; i++) to += sprintf(to, i ? ",%d" : "%d", i ? 259 + i * 7 % 15 : 1);
}

/* Two computations of the same sums in different orders: 2^-24 * 4 * sqrt(8 * 30 layer executions) * the largest logit
 * of 20, as derived in golden/compare.c. */
static const double SCORES_CLOSE = 1e-4;

/* Requests of lm-evaluation-harness: both lists are one longer than the prompt, the first entry is null, and the chosen
 * token has the same value in the top list if it is there. The prompt is longer than a prefill chunk, on which scores
 * must not depend. */
static void echoed_prompts_are_scored(void **state) {
    enum { PROMPT = 150 };
    char ids[5 * PROMPT], body[6 * PROMPT];
    served s = SERVE(state, "--max_num_seqs", "8");
    write_ids(ids, PROMPT);
    snprintf(body, sizeof body,
             "{\"prompt\":[[%s],[7,8]],\"max_tokens\":1,\"logprobs\":1,\"echo\":true,\"temperature\":0,"
             "\"seed\":1234}",
             ids);
    json_t *a = ask(&s, "/v1/completions", body);
    json_t *scores = RUN_JSON(s.f, "score", "--model_name_or_path", in(s.f, "model"), "--prompt_ids", ids);
    const json_t *lists = json_object_get(choice(a, 0), "logprobs");
    const json_t *given = json_object_get(lists, "token_logprobs"), *top = json_object_get(lists, "top_logprobs");
    const json_t *expected = json_object_get(scores, "logprobs");
    assert_int_equal(json_array_size(given), PROMPT + 1);
    assert_int_equal(json_array_size(top), PROMPT + 1);
    assert_true(json_is_null(json_array_get(given, 0)) && json_is_null(json_array_get(top, 0)));
    for (size_t i = 1; i < PROMPT; i++) {
        double logprob = json_real_value(json_array_get(given, i)), best = -HUGE_VAL;
        const char *key;
        json_t *value;
        assert_true(fabs(logprob - json_real_value(json_array_get(expected, i - 1))) < SCORES_CLOSE);
        json_object_foreach(json_array_get(top, i), key, value) best = fmax(best, json_real_value(value));
        assert_true(best >= logprob);
    }
    assert_int_equal(json_array_size(json_object_get(json_object_get(choice(a, 1), "logprobs"), "tokens")), 3);
    json_decref(a);
    a = ask(&s, "/v1/completions", "{\"prompt\":[[1,260,261],[7]],\"max_tokens\":0,\"logprobs\":0,\"echo\":true}");
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(json_array_size(json_object_get(json_object_get(choice(a, i), "logprobs"), "tokens")),
                         i ? 1 : 3);
    assert_int_equal(usage_of(a, "completion_tokens"), 0);
    json_decref(scores);
    json_decref(a);
    stop(&s);
}

/* Top tokens of new tokens, and biases: a bias of 100 makes any token the most probable one. */
static void new_tokens_have_log_probabilities(void **state) {
    served s = SERVE(state, "--batch_invariant");
    json_t *a = ask(&s, "/v1/completions",
                    "{\"prompt\":[1,260],\"max_tokens\":4,\"temperature\":0,\"logprobs\":3,"
                    "\"logit_bias\":{\"270\":100},\"presence_penalty\":-1}");
    const json_t *lists = json_object_get(choice(a, 0), "logprobs");
    assert_string_equal(text_at(a, 0), "....");
    for (size_t i = 0; i < 4; i++) {
        double logprob = json_real_value(json_array_get(json_object_get(lists, "token_logprobs"), i));
        const json_t *top = json_array_get(json_object_get(lists, "top_logprobs"), i);
        assert_true(logprob < 0);
        assert_true(json_object_size(top) >= 1 && json_object_size(top) <= 3);
    }
    json_decref(a);
    stop(&s);
}

static void tokenizers_are_served(void **state) {
    served s = SERVE(state, "--max_num_seqs", "2");
    json_t *a = ask(&s, "/tokenize", "{\"prompt\":\"a b\"}");
    assert_int_equal(json_integer_value(json_object_get(a, "count")), 3);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(a, "tokens"), 0)), 1);
    json_decref(a);
    a = ask(&s, "/detokenize", "{\"tokens\":[260,261]}");
    assert_string_equal(json_string_value(json_object_get(a, "prompt")), "the cat");
    json_decref(a);
    http_answer info = http_do(s.port, "GET", "/tokenizer_info", "", ""),
                models = http_do(s.port, "GET", "/v1/models", "", "");
    assert_int_equal(info.status, 200);
    assert_non_null(strstr(models.body, "\"id\":\"small\""));
    http_free(&info);
    http_free(&models);
    stop(&s);
}

/* ---------------------------------------------------------------- chats */

static const char TEMPLATE[] = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"
                               "{% if add_generation_prompt %}[assistant]{% endif %}";
#define MESSAGES                                                                                                       \
    "\"messages\":[{\"role\":\"developer\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\","     \
    "\"text\":\"the \"},{\"type\":\"text\",\"text\":\"cat\"}]}]"

static char *content_of(const json_t *answer) {
    const json_t *message = json_object_get(choice(answer, 0), "message");
    assert_string_equal(json_string_value(json_object_get(message, "role")), "assistant");
    return strdup(json_string_value(json_object_get(message, "content")));
}

/* A chat equals the completion of the rendered template. */
static void chats_go_by_the_template(void **state) {
    put_text(in(*state, "model/chat_template.jinja"), TEMPLATE);
    served s = SERVE(state, "--max_num_seqs", "4");
    json_t *prompt = ask(&s, "/apply_template", "{" MESSAGES "}");
    assert_string_equal(json_string_value(json_object_get(prompt, "prompt")), "[system]a[user]the cat[assistant]");
    json_t *question = json_pack("{sO sb}", "prompt", json_object_get(prompt, "prompt"), "add_special_tokens", 0);
    char *text = json_dumps(question, 0);
    json_t *ids = ask(&s, "/tokenize", text);
    json_t *plain = json_pack("{sO si si sb}", "prompt", json_object_get(ids, "tokens"), "max_tokens", 9, "temperature",
                              0, "ignore_eos", 1);
    char *body = json_dumps(plain, 0);
    json_t *expected = ask(&s, "/v1/completions", body);
    json_t *chat = ask(&s, "/v1/chat/completions",
                       "{" MESSAGES ",\"max_completion_tokens\":9,\"temperature\":0,\"ignore_eos\":true}");
    char *content = content_of(chat);
    assert_string_equal(content, text_at(expected, 0));
    assert_int_equal(usage_of(chat, "prompt_tokens"), json_integer_value(json_object_get(ids, "count")));
    free(content);
    free(text);
    free(body);
    json_t *all[] = {prompt, question, ids, plain, expected, chat};
    for (int i = 0; i < 6; i++) json_decref(all[i]);
    stop(&s);
}

/* ---------------------------------------------------------------- errors */

static void expect_refused(const served *s, const char *method, const char *path, const char *body, size_t bytes,
                           int status, const char *part) {
    int fd = http_connect(s->port);
    http_ask(fd, method, path, "", body, bytes);
    http_answer a = http_read(fd);
    if (a.status != status || !strstr(a.body, part))
        fail_msg("%s %s %.100s: %d %s; expected %d with '%s'", method, path, body, a.status, a.body ? a.body : "",
                 status, part);
    assert_non_null(strstr(a.body, "\"error\""));
    http_free(&a);
}

static void mistakes_are_named(void **state) {
    served s = SERVE(state, "--max_body_bytes", "20000", "--max_model_len", "100", "--max_queue", "3");
    static const struct {
        const char *body, *part;
    } cases[] = {
        {"{\"prompt\":", "not valid JSON"},
        {"[1]", "must be a JSON object"},
        {"", "not valid JSON"},
        {"{\"prompt\":\"a\xff\"}", "not valid JSON"},
        {"{\"prompt\":\"a\",\"max_tokens\":1e400}", "not valid JSON"},
        {"{\"prompt\":\"a\",\"max_tokens\":99999999999999999999}", "not valid JSON"},
        {"{\"max_tokens\":1}", "\"param\":\"prompt\""},
        {"{\"prompt\":{}}", "\"param\":\"prompt\""},
        {"{\"prompt\":[]}", "\"param\":\"prompt\""},
        {"{\"prompt\":[1,\"a\"]}", "\"param\":\"prompt\""},
        {"{\"prompt\":[1,-1]}", "\"param\":\"prompt\""},
        {"{\"prompt\":[1,70000]}", "70000"},
        {"{\"prompt\":\"a\",\"temperature\":\"hot\"}", "must be a number from 0 to 100, found \\\"hot\\\""},
        {"{\"prompt\":\"a\",\"max_tokens\":1.5}", "must be an integer from 0 to 2147483647, found 1.5"},
        {"{\"prompt\":\"a\",\"echo\":1}", "'echo' must be true or false, found 1"},
        {"{\"prompt\":\"a\",\"model\":{}}", "'model' must be a string, found {}"},
        {"{\"prompt\":\"a\",\"temperature\":-1}", "\"param\":\"temperature\""},
        {"{\"prompt\":\"a\",\"n\":0}", "\"param\":\"n\""},
        {"{\"prompt\":\"a\",\"stream\":1}", "\"param\":\"stream\""},
        {"{\"prompt\":\"a\",\"stop\":[\"\"]}", "\"param\":\"stop\""},
        {"{\"prompt\":\"a\",\"stream_options\":{}}", "\"param\":\"stream_options\""},
        {"{\"prompt\":\"a\",\"tools\":[]}", "\"param\":\"tools\""},
        {"{\"prompt\":\"a\",\"logit_bias\":{\"x\":1}}", "\"param\":\"logit_bias\""},
        {"{\"prompt\":\"a\",\"suffix\":\"b\"}", "'suffix' is not supported"},
        {"{\"prompt\":\"a\",\"max_tokens\":101}", "\"code\":\"context_length_exceeded\""},
        {"{\"prompt\":\"a\",\"max_tokens\":101,\"echo\":true,\"logprobs\":1}", "context_length_exceeded"},
        {"{\"prompt\":[[1],[1],[1],[1]]}", "at most 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(&s, "POST", "/v1/completions", cases[i].body, strlen(cases[i].body), 400, cases[i].part);
    char deep[12000];
    memset(deep, '[', sizeof deep);
    expect_refused(&s, "POST", "/v1/completions", deep, sizeof deep, 400, "nested more than 128 levels");
    static char large[40000];
    memset(large, ' ', sizeof large);
    expect_refused(&s, "POST", "/v1/completions", large, sizeof large, 413, "too large");
    expect_refused(&s, "POST", "/v1/embeddings", "{}", 2, 400, "embeddings are not supported");
    static const char other[] = "{\"prompt\":\"a\",\"model\":\"other\"}";
    expect_refused(&s, "POST", "/v1/completions", other, sizeof other - 1, 404, "\"code\":\"model_not_found\"");
    expect_refused(&s, "GET", "/v1/completions", "", 0, 405, "POST");
    expect_refused(&s, "GET", "/no/such/path", "", 0, 404, "not found");
    expect_refused(&s, "GET", "/v1/models/other", "", 0, 404, "model_not_found");
    stop(&s);
}

static void chats_that_cannot_be_are_named(void **state) {
    served without = SERVE(state, "--max_num_seqs", "2");
    static const char hello[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";
    expect_refused(&without, "POST", "/v1/chat/completions", hello, sizeof hello - 1, 400, "no chat template");
    stop(&without);
    put_text(in(*state, "t.jinja"), "{{ raise_exception('never') if messages[0].content == 'x' else 'a' }}");
    served s = SERVE(state, "--chat_template", in(*state, "t.jinja"));
    static const struct {
        const char *body, *part;
    } cases[] = {
        {"{}", "\"param\":\"messages\""},
        {"{\"messages\":[]}", "\"param\":\"messages\""},
        {"{\"messages\":[1]}", "messages[0] must be an object"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0] must have a 'content'"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
         "\"param\":\"messages[0].content[0]\""},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "never"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[{}]}", "'tools' is not supported"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"response_format\":{\"type\":\"json_object\"}}",
         "'response_format' is not supported"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"top_logprobs\":2}", "requires 'logprobs'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(&s, "POST", "/v1/chat/completions", cases[i].body, strlen(cases[i].body), 400, cases[i].part);
    stop(&s);
}

static void keys_and_origins_are_asked_for(void **state) {
    served s = SERVE(state, "--api_key", "secret", "--allowed_origins", "https://good.example");
    http_answer none = http_do(s.port, "GET", "/v1/models", "", "");
    http_answer wrong = http_do(s.port, "GET", "/v1/models", "Authorization: Bearer secre\r\n", "");
    http_answer right = http_do(s.port, "GET", "/v1/models", "Authorization: Bearer secret\r\n", "");
    http_answer health = http_do(s.port, "GET", "/health", "", "");
    http_answer bad = http_do(s.port, "POST", "/v1/completions",
                              "Authorization: Bearer secret\r\nOrigin: https://bad.example\r\n", "{}");
    http_answer good =
        http_do(s.port, "GET", "/v1/models", "Authorization: Bearer secret\r\nOrigin: https://good.example\r\n", "");
    assert_int_equal(none.status, 401);
    assert_int_equal(wrong.status, 401);
    assert_int_equal(right.status, 200);
    assert_int_equal(health.status, 200);
    assert_int_equal(bad.status, 403);
    assert_int_equal(good.status, 200);
    assert_non_null(strstr(good.head, "Access-Control-Allow-Origin: https://good.example"));
    http_answer *all[] = {&none, &wrong, &right, &health, &bad, &good};
    for (int i = 0; i < 6; i++) http_free(all[i]);
    stop(&s);
}

/* ---------------------------------------------------------------- disconnects and overload */

static const char LONG_STREAM[] =
    "{\"prompt\":\"a\",\"max_tokens\":" MANY_TOKENS ",\"ignore_eos\":true,\"stream\":true}";
static const char LONG_WHOLE[] = "{\"prompt\":\"a\",\"max_tokens\":" MANY_TOKENS ",\"ignore_eos\":true}";

/* Sends `first` and then a byte five times a second; returns whether the server closes the connection within a minute.
 */
static bool is_ended(int port, const char *first) {
    char byte;
    bool ended = false;
    int fd = http_connect(port);
    assert_true(fd >= 0 && http_send(fd, first, strlen(first)));
    for (int i = 0; i < 300 && !ended; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        ended = !http_send(fd, "1", 1) || recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
    }
    close(fd);
    return ended;
}

/* A silent connection is closed, and so is a request that arrives a byte at a time, in headers or body. */
static void a_request_has_its_time_to_come(void **state) {
    served s = SERVE(state, "--timeout", "1");
    assert_true(is_ended(s.port, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "));
    assert_true(is_ended(s.port, "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n[1,"));
    json_decref(ask(&s, "/v1/completions", GREEDY));
}

static void who_leaves_gives_back_the_pages(void **state) {
    served s = SERVE(state, "--max_num_seqs", "4", WRITES_ON);
    char byte;
    int streaming = begin(&s, LONG_STREAM), waiting = begin(&s, LONG_WHOLE);
    assert_int_equal(recv(streaming, &byte, 1, 0), 1);
    expect_metric_soon(&s, "samples_running", 2);
    assert_true(metric(&s, "kv_pages_used") > 0);
    close(streaming);
    close(waiting);
    expect_metric_soon(&s, "kv_pages_used", 0);
    expect_metric_soon(&s, "requests_abandoned_total", 2);
    stop(&s);
}

static void a_full_queue_says_so(void **state) {
    served s = SERVE(state, "--max_num_seqs", "1", "--max_queue", "1", WRITES_ON);
    int first = begin(&s, LONG_STREAM);
    expect_metric_soon(&s, "samples_running", 1);
    int second = begin(&s, LONG_STREAM);
    expect_metric_soon(&s, "samples_waiting", 1);
    http_answer a = http_do(s.port, "POST", "/v1/completions", "", LONG_WHOLE);
    assert_int_equal(a.status, 429);
    assert_non_null(strstr(a.head, "Retry-After"));
    assert_non_null(strstr(a.body, "rate_limit_error"));
    http_free(&a);
    close(first);
    close(second);
    stop(&s);
}

static void sigterm_answers_what_runs(void **state) {
    served s = SERVE(state, "--max_num_seqs", "4");
    int fd = begin(&s, "{\"prompt\":\"a\",\"max_tokens\":3000,\"ignore_eos\":true}");
    expect_metric_soon(&s, "requests_total", 1);
    kill(s.process, SIGTERM);
    http_answer a = http_read(fd);
    assert_int_equal(a.status, 200);
    json_t *answer = json_of(&a);
    assert_int_equal(usage_of(answer, "completion_tokens"), 3000);
    json_decref(answer);
    assert_int_equal(program_wait(s.process), 0);
}

/* ---------------------------------------------------------------- many requests at once */

enum { CLIENTS = 12, REQUESTS = 8 };

typedef struct client {
    const served *s;
    const char *expected;
    int number, right, wrong;
    pthread_t thread;
} client;

/* Some disconnect in the middle; the others must get the same result as alone. */
/* Weights are mapped from the file. If it is truncated, the server prints a message instead of only dying of SIGBUS. */
static void a_model_that_shrinks_is_named(void **state) {
    size_t bytes;
    served s = SERVE(state, "--torch_dtype", "float32");
    assert_int_equal(truncate(in(*state, "model/model.safetensors"), 0), 0);
    http_answer a = http_do(s.port, "POST", "/v1/completions", "Content-Type: application/json\r\n",
                            "{\"model\":\"small\",\"prompt\":\"hello\",\"max_tokens\":4}");
    assert_int_equal(a.status, 0);
    http_free(&a);
    assert_int_equal(program_wait(s.process), 1);
    char *messages = get(in(*state, "stderr"), &bytes);
    if (!strstr(messages, "/model/model.safetensors' was truncated")) fail_msg("%s", messages);
    free(messages);
}

static void *be_client(void *user) {
    client *c = user;
    for (int i = 0; i < REQUESTS; i++) {
        if ((c->number + i) % 3 == 0) {
            int fd = http_connect(c->s->port);
            http_ask(fd, "POST", "/v1/completions", "", LONG_STREAM, sizeof LONG_STREAM - 1);
            usleep((useconds_t)(1000 * (1 + (c->number * 7 + i * 13) % 60)));
            close(fd);
            continue;
        }
        http_answer a = http_do(c->s->port, "POST", "/v1/completions", "", GREEDY);
        json_t *json = a.status == 200 ? json_loads(a.body, 0, NULL) : NULL;
        const char *text = json ? text_at(json, 0) : NULL;
        if (text && !strcmp(text, c->expected))
            c->right++;
        else
            c->wrong++;
        json_decref(json);
        http_free(&a);
    }
    return NULL;
}

static void many_clients_get_what_one_gets(void **state) {
    served s = SERVE(state, "--max_num_seqs", "8");
    json_t *alone = ask(&s, "/v1/completions", GREEDY);
    client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.s = &s, .expected = text_at(alone, 0), .number = i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, be_client, &clients[i]), 0);
    }
    int right = 0;
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].wrong, 0);
        right += clients[i].right;
    }
    assert_true(right > CLIENTS * REQUESTS / 2);
    expect_metric_soon(&s, "kv_pages_used", 0);
    json_decref(alone);
    stop(&s);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(completions_are_what_generate_writes),
        WITH_MODEL(forms_of_prompts_are_counted),
        WITH_MODEL(prompts_take_the_runs_that_are_asked_for),
        WITH_MODEL(streams_say_the_same),
        WITH_MODEL(streams_echo_prompts),
        WITH_MODEL(echoed_prompts_are_scored),
        WITH_MODEL(new_tokens_have_log_probabilities),
        WITH_MODEL(tokenizers_are_served),
        WITH_MODEL(chats_go_by_the_template),
        WITH_MODEL(mistakes_are_named),
        WITH_MODEL(chats_that_cannot_be_are_named),
        WITH_MODEL(keys_and_origins_are_asked_for),
        WITH_MODEL(a_request_has_its_time_to_come),
        WITH_MODEL(who_leaves_gives_back_the_pages),
        WITH_MODEL(a_full_queue_says_so),
        WITH_MODEL(sigterm_answers_what_runs),
        WITH_MODEL(a_model_that_shrinks_is_named),
        WITH_MODEL(many_clients_get_what_one_gets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
