/* The commands whose allocations fail, each with the small model of model_folder.h, with one thread where it matters.
 */
#include "allocations.h"

#include "http_client.h"

#include <errno.h>

#define MODEL "--model_name_or_path", "model"
#define COMPUTE "--device", "cpu", "--threads", "1"
#define TRAINING                                                                                                       \
    "--output_dir", "out", "--per_device_train_batch_size", "2", "--logging_steps", "1", "--save_steps", "1", COMPUTE
#define TRAIN "train", "--config_name", "config.json", "--tokenizer_name", "model", "--block_size", "16", TRAINING
#define TRAIN_FILES                                                                                                    \
    "--preprocessing_num_workers", "2", "--train_file", "train.txt", "--validation_file", "train.txt",                 \
        "--eval_strategy", "steps"

static hub_server hub;

/* ---------------------------------------------------------------- files */

static const char TEMPLATE[] = "{% for m in messages %}{{ bos_token if loop.first }}[{{ m.role }}]{{ m.content }}"
                               "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}";

static void put_files(const folder *f) {
    text_buffer b = {0};
    for (int i = 0; i < 40; i++) OK(text_printf(&b, "the cat sat on a b stop. %d\nabab\n", i));
    put(in(f, "train.txt"), b.data, b.length);
    text_free(&b);
    put_text(in(f, "model/tokenizer_config.json"), "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    put_text(in(f, "model/chat_template.jinja"), TEMPLATE);
    put_text(in(f, "rows.jsonl"), "{\"messages\":[{\"role\":\"user\",\"content\":\"the cat\"},{\"role\":\"assistant\","
                                  "\"content\":\"sat on\"}]}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n");
    put_text(in(f, "prompts.jsonl"), "{\"prompt\": \"the cat\"}\n{\"prompt\": \"a b stop\"}\n");
    put_text(in(f, "text.jsonl"), "{\"text\": \"the cat sat\"}\n{\"text\": \"é ab\\u0000\"}\n");
    put_text(in(f, "lines"), "the cat\na b\n");
    put_text(in(f, "piqa.jsonl"), "{\"goal\": \"the cat\", \"sol1\": \"sat on\", \"sol2\": \"a b\", \"label\": 0}\n"
                                  "{\"goal\": \"a stop\", \"sol1\": \"b\", \"sol2\": \"the cat\", \"label\": 1}\n");
}

static void run_command(const char *format, const char *a, const char *b) {
    char command[2 * PATH_BYTES + 64];
    snprintf(command, sizeof command, format, a, b);
    if (system(command)) fail_msg("failed: %s", command);
}

void copy_tree(const char *from, const char *to) {
    run_command("cp -a '%s' '%s'", from, to);
}

bool has_partial_files(const char *path) {
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        char inside[2 * PATH_BYTES];
        snprintf(inside, sizeof inside, "%.500s/%.500s", path, e->d_name);
        found = strstr(e->d_name, ".partial") || (e->d_name[0] != '.' && has_partial_files(inside));
    }
    if (dir) closedir(dir);
    return found;
}

/* Turns a complete run into an interrupted one. */
static void put_started_run(const scenario *s, const folder *f) {
    text_buffer b = {0};
    OK(text_printf(&b, "cd '%s' && mkdir out && '%s'", f->path, FAILING_PROGRAM));
    for (int i = 1; s->words[i]; i++) OK(text_printf(&b, " '%s'", s->words[i]));
    OK(text_printf(&b, " >log 2>&1 && %s && mv out started", s->interrupt));
    run_command("%s%s", b.data, "");
    text_free(&b);
}

void prepare(const scenario *s, const folder *f) {
    static char large[100000];
    put_files(f);
    hub_environment(9, in(f, "cache"), in(f, "home"));
    if (s->interrupt) put_started_run(s, f);
    if (strcmp(s->name, "fetch")) return;
    hub_start(&hub, "models/org/tiny");
    for (size_t i = 0; i < sizeof large; i++) large[i] = (char)(i * 2654435761u >> 13);
    hub_add(&hub, "README.md", "hello\n", 6, false);
    hub_add(&hub, "model.safetensors", large, sizeof large, true);
    hub_environment(hub.ports[0], in(f, "cache"), in(f, "home"));
}

void finish(const scenario *s) {
    if (!strcmp(s->name, "fetch")) hub_stop(&hub);
}

/* ---------------------------------------------------------------- a client of serve */

/* The port from the server's message; 0 if the server has exited. */
static int port_of(const folder *f, pid_t process) {
    for (int i = 0; i < 6000; i++) {
        size_t bytes;
        siginfo_t info = {0};
        bool ended = waitid(P_PID, (id_t)process, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == process;
        char *text = file_exists(in(f, "stderr")) ? get(in(f, "stderr"), &bytes) : NULL;
        const char *at = text ? strstr(text, "http://127.0.0.1:") : NULL;
        int port = at && strchr(at, '\n') ? atoi(at + 17) : 0;
        free(text);
        if (port || ended) return ended ? 0 : port;
        usleep(5000);
    }
    return 0;
}

/* Appends the texts of a response, or the whole error. */
static void append_answer(text_buffer *b, http_answer *a) {
    static const char *const KEYS[] = {"\"text\":\"", "\"content\":\"", "\"error\":"};
    OK(text_printf(b, "%d", a->status));
    if (!a->status || (strstr(a->head, "event-stream") && !strstr(a->body, "[DONE]")))
        OK(text_printf(b, " (cut off: out of memory?)"));
    for (int i = 0; a->body && i < 3; i++)
        for (const char *at = a->body; (at = strstr(at, KEYS[i]));) {
            at += strlen(KEYS[i]);
            OK(text_printf(b, " \"%.*s\"", (int)strcspn(at, i < 2 ? "\"" : "\n"), at));
        }
    OK(text_printf(b, "\n"));
    http_free(a);
}

/* A request, a streamed chat, and the first request again: one failure must not affect later requests. */
static void ask_server(const folder *f, pid_t process, ending *e) {
    static const char PLAIN[] = "{\"model\":\"small\",\"prompt\":\"the cat\",\"max_tokens\":4,\"temperature\":0}";
    static const char CHAT[] = "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"a b\"}],"
                               "\"max_tokens\":4,\"temperature\":0,\"stream\":true}";
    static const struct {
        const char *path, *body;
    } REQUESTS[] = {
        {"/v1/completions", PLAIN}, {"/v1/chat/completions", CHAT}, {"/v1/completions", PLAIN}, {"/health", NULL}};
    text_buffer b = {0};
    int port = port_of(f, process);
    for (int i = 0; port && i < 4; i++) {
        const char *body = REQUESTS[i].body ? REQUESTS[i].body : "";
        http_answer a =
            http_do(port, *body ? "POST" : "GET", REQUESTS[i].path, "Content-Type: application/json\r\n", body);
        append_answer(&b, &a);
    }
    OK(text_take(&b, &e->answer));
    kill(process, SIGTERM);
}

/* ---------------------------------------------------------------- the commands */

const scenario SCENARIOS[] = {
    {"inspect", {"lckv", "inspect", MODEL, NULL}},
    {"inspect_json", {"lckv", "inspect", "--config_name", "config.json", "--json", NULL}},
    {"tokenize", {"lckv", "tokenize", "--tokenizer_name", "model", "--jsonl", NULL}, "text.jsonl"},
    {"tokenize_files",
     {"lckv", "tokenize", "--tokenizer_name", "model", "--train_file", "train.txt", "--output_dir", "out",
      "--preprocessing_num_workers", "2", NULL},
     .varies = true},
    {"generate",
     {"lckv", "generate", MODEL, "--prompt", "the cat", "--length", "6", "--temperature", "0", COMPUTE, NULL}},
    {"generate_int8",
     {"lckv", "generate", MODEL, "--prompt", "the cat", "--length", "6", "--temperature", "0", "--kv_dtype", "int8",
      COMPUTE, NULL}},
    {"generate_file",
     {"lckv", "generate", MODEL, "--prompt_file", "prompts.jsonl", "--length", "6", "--temperature", "0.8", "--seed",
      "1", "--encoding", "sequential", "--output_file", "out/out.jsonl", COMPUTE, NULL},
     .results = {"out/out.jsonl"},
     .varies = true},
    {"generate_again",
     {"lckv", "generate", MODEL, "--prompt_file", "prompts.jsonl", "--length", "6", "--temperature", "0",
      "--output_file", "out/out.jsonl", COMPUTE, NULL},
     .results = {"out/out.jsonl"},
     .interrupt = "head -n 1 out/out.jsonl >first && mv first out/out.jsonl",
     .varies = true},
    {"lockstep",
     {"lckv", "generate", MODEL, "--prompt_file", "prompts.jsonl", "--length", "2", "--temperature", "0", "--encoding",
      "auto", "--output_file", "out/out.jsonl", COMPUTE, NULL},
     .results = {"out/out.jsonl"},
     .varies = true},
    {"score", {"lckv", "score", MODEL, "--text", "the cat sat", "--json", COMPUTE, NULL}, .varies = true},
    {"score_int8",
     {"lckv", "score", MODEL, "--text", "the cat sat", "--json", "--kv_dtype", "int8", COMPUTE, NULL},
     .varies = true},
    {"convert",
     {"lckv", "convert", MODEL, "--output_dir", "out", "--config_overrides", "layer_types=2_2_2_3", NULL},
     .results = {"out/model.safetensors", "out/config.json"},
     .varies = true},
    {"eval", {"lckv", "eval", MODEL, "--data_dir", ".", "--tasks", "piqa", COMPUTE, NULL}, .varies = true},
    {"eval_text", {"lckv", "eval", MODEL, "--file", "train.txt", COMPUTE, NULL}, .varies = true},
    {"chat", {"lckv", "chat", MODEL, "--temperature", "0", "--max_new_tokens", "4", COMPUTE, NULL}, "lines"},
    {"bench",
     {"lckv", "bench", "--config_name", "config.json", "--measure", "batch", "--lengths", "16+16", "--plan_only",
      "--memory_limit", "4000000", COMPUTE, NULL},
     .varies = true},
    {"train",
     {"lckv", TRAIN, TRAIN_FILES, "--max_steps", "2", NULL},
     .results = {"out/model.safetensors"},
     .varies = true},
    {"resume",
     {"lckv", TRAIN, TRAIN_FILES, "--max_steps", "2", NULL},
     .results = {"out/model.safetensors"},
     .interrupt = "rm -r out/checkpoint-2 out/model.safetensors",
     .varies = true},
    {"sft",
     {"lckv", "sft", MODEL, "--train_file", "rows.jsonl", "--max_steps", "2", TRAINING, NULL},
     .results = {"out/model.safetensors"},
     .varies = true},
    {"sft_lora",
     {"lckv", "sft", MODEL, "--train_file", "rows.jsonl", "--max_steps", "2", "--use_peft", TRAINING, NULL},
     .results = {"out/adapter_model.safetensors"},
     .varies = true},
    {"exact",
     {"lckv", TRAIN, "--train_file", "train.txt", "--loop_form", "exact", "--loop_start", "--max_steps", "2", NULL},
     .results = {"out/model.safetensors", "out/loop_start.safetensors"},
     .varies = true},
    {"fit_loop_start",
     {"lckv", "convert", MODEL, "--output_dir", "out", "--fit_loop_start", "train.txt", "--loop_start_steps", "2",
      COMPUTE, NULL},
     .results = {"out/loop_start.safetensors"},
     .varies = true},
    {"processes",
     {"lckv", TRAIN, "--train_file", "train.txt", "--max_steps", "2", "--num_processes", "2", NULL},
     .results = {"out/model.safetensors"},
     .more_errors = 1,
     .varies = true},
    {"serve",
     {"lckv", "serve", MODEL, "--port", "0", "--served_model_name", "small", "--max_num_seqs", "2", COMPUTE, NULL},
     .varies = true,
     .use = ask_server},
    {"fetch", {"lckv", "fetch", "org/tiny", NULL}},
    {NULL},
};
