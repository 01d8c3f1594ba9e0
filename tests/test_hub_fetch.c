/* Downloads to the Hugging Face cache, from a simulated hub on 127.0.0.1 (hub_server.h). */
#include "base/files/folder.h"
#include "base/log.h"
#include "hub/list.h"

#include "hub_server.h"
#include "program.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/resource.h>

enum { LARGE = 300000 }; /* bytes, which libcurl delivers in many parts */

static char large[LARGE];
static hub_server hub;

static void need_libcurl(void) {
    lckv_fetch_options options = lckv_fetch_defaults();
    lckv_fetch_result result;
    options.name = "org/absent";
    int status = lckv_fetch(&options, &result);
    hub.requests = 0;
    if (status != LCKV_ERROR_UNSUPPORTED) return;
    hub_stop(&hub);
    print_message("skipped: %s\n", lckv_last_error());
    skip();
}

/* Sets the environment: only the hub and the test's folder. */
static void surround(const folder *f, const char *repository) {
    hub_start(&hub, repository);
    for (int i = 0; i < LARGE; i++) large[i] = (char)((unsigned)i * 2654435761u >> 13);
    hub_environment(hub.ports[0], in(f, "cache"), in(f, "home"));
    need_libcurl();
}

static void surround_with_model(const folder *f) {
    surround(f, "models/org/tiny");
    hub_add(&hub, "README.md", "hello\n", 6, false);
    hub_add(&hub, "model.safetensors", large, LARGE, true);
    hub_add(&hub, "deep/er/a b.txt", "", 0, false);
}

static lckv_fetch_options asked(void) {
    lckv_fetch_options options = lckv_fetch_defaults();
    options.name = "org/tiny";
    options.retries = 1;
    return options;
}

static lckv_fetch_result fetch_well(const lckv_fetch_options *options) {
    lckv_fetch_result result;
    if (lckv_fetch(options, &result) < 0) fail_msg("%s", lckv_last_error());
    return result;
}

static void fetch_and_forget(const lckv_fetch_options *options) {
    lckv_fetch_result result = fetch_well(options);
    lckv_free(result.folder);
}

static void fetch_fails(const lckv_fetch_options *options, int status, const char *part) {
    lckv_fetch_result result;
    int found = lckv_fetch(options, &result);
    if (found != status) fail_msg("status %d, expected %d: %s", found, status, lckv_last_error());
    if (!strstr(lckv_last_error(), part)) fail_msg("'%s' does not say '%s'", lckv_last_error(), part);
    assert_null(result.folder);
}

#define MODEL(name) in(f, "cache/models--org--tiny/" name)
#define SNAPSHOT(name) MODEL("snapshots/" HUB_COMMIT "/" name)

static int entries_in(const char *path) {
    DIR *entries = opendir(path);
    int count = 0;
    assert_non_null(entries);
    for (struct dirent *e; (e = readdir(entries));) count += e->d_name[0] != '.';
    closedir(entries);
    return count;
}

static const char *blob_path(const folder *f, int i, const char *end) {
    char name[256];
    snprintf(name, sizeof name, "cache/models--org--tiny/blobs/%s%s", hub.files[i].blob, end);
    return in(f, name);
}

static void assert_content(const char *path, const char *bytes, size_t count) {
    size_t found;
    char *read = get(path, &found);
    assert_int_equal(found, count);
    assert_memory_equal(read, bytes, count);
    free(read);
}

static void assert_link(const char *path, const char *target) {
    char found[512];
    ssize_t length = readlink(path, found, sizeof found - 1);
    assert_true(length > 0);
    found[length] = '\0';
    assert_string_equal(found, target);
}

static void the_cache_is_laid_out_as_huggingface_hub_does(void **state) {
    const folder *f = *state;
    char *found;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    lckv_fetch_result r = fetch_well(&options);
    assert_string_equal(r.commit, HUB_COMMIT);
    assert_int_equal(r.files, 3);
    assert_int_equal(r.bytes, LARGE + 6);
    assert_int_equal(r.received_bytes, LARGE + 6);
    assert_string_equal(r.folder, MODEL("snapshots/" HUB_COMMIT));
    assert_content(MODEL("refs/main"), HUB_COMMIT, 40);
    /* `printf 'hello\n' | git hash-object --stdin`, and of nothing */
    assert_link(SNAPSHOT("README.md"), "../../blobs/ce013625030ba8dba906f756967f9e9ca394464a");
    assert_link(SNAPSHOT("deep/er/a b.txt"), "../../../../blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    assert_content(SNAPSHOT("README.md"), "hello\n", 6);
    assert_content(SNAPSHOT("model.safetensors"), large, LARGE);
    assert_false(file_exists(blob_path(f, 1, ".incomplete")));
    OK(lckv_find_folder("org/tiny", &found)); /* how every command resolves the name */
    assert_string_equal(found, r.folder);
    lckv_free(found);
    lckv_free(r.folder);

    int before = hub.requests;
    r = fetch_well(&options); /* again: only the list is requested */
    assert_int_equal(hub.requests, before + 1);
    assert_int_equal(r.received_bytes, 0);
    lckv_free(r.folder);
    hub_stop(&hub);
}

static void a_data_set_has_its_own_place_and_patterns_choose_files(void **state) {
    const folder *f = *state;
    static const char *const INCLUDE[] = {"*.txt", "*.md"}, *const EXCLUDE[] = {"deep/*"};
    surround(f, "datasets/org/tiny");
    hub_add(&hub, "README.md", "hello\n", 6, false);
    hub_add(&hub, "deep/b.txt", "b", 1, false);
    hub_add(&hub, "a.txt", "a", 1, false);
    hub_add(&hub, "c.bin", "c", 1, false);
    lckv_fetch_options options = asked();
    options.dataset = true;
    options.include = INCLUDE, options.include_count = 2;
    options.exclude = EXCLUDE, options.exclude_count = 1;
    lckv_fetch_result r = fetch_well(&options);
    assert_int_equal(r.files, 2);
    assert_content(in(f, "cache/datasets--org--tiny/snapshots/" HUB_COMMIT "/a.txt"), "a", 1);
    assert_content(in(f, "cache/datasets--org--tiny/refs/main"), HUB_COMMIT, 40);
    assert_false(file_exists(in(f, "cache/datasets--org--tiny/snapshots/" HUB_COMMIT "/deep/b.txt")));
    lckv_free(r.folder);
    options.include_count = 1, options.exclude = options.include, options.exclude_count = 2;
    fetch_fails(&options, LCKV_ERROR_FILE, "'org/tiny' has no file that matches the patterns");
    hub_stop(&hub);
}

static void the_token_goes_to_the_hub_alone(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    hub.token = "hf_secret";
    lckv_fetch_options options = asked();
    fetch_fails(&options, LCKV_ERROR_FILE, "the repository does not exist or is private (401, Invalid username");
    setenv("HF_TOKEN", "hf_wrong", 1);
    fetch_fails(&options, LCKV_ERROR_FILE, "the hub rejected the token (401");
    assert_null(strstr(lckv_last_error(), "hf_wrong"));
    setenv("HF_TOKEN", " hf_secret\n", 1); /* as copied from a web page */
    fetch_and_forget(&options);
    assert_int_equal(hub.other_requests, 1); /* the large file came from the second host */
    assert_int_equal(hub.other_tokens, 0);
    setenv("HF_TOKEN", "two words", 1);
    fetch_fails(&options, LCKV_ERROR_ARGUMENT, "the hub token contains invalid characters");
    unsetenv("HF_TOKEN");
    OK(folder_create(in(f, "home")));
    put_text(in(f, "home/token"), "hf_secret\n"); /* huggingface-cli login */
    fetch_and_forget(&options);
    hub_stop(&hub);
}

static void a_broken_connection_goes_on_where_it_broke(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    hub.cut_after = 100000, hub.cuts = 2; /* more failures in total than in a row */
    lckv_fetch_result r = fetch_well(&options);
    assert_string_equal(hub.ranges, "100000-100000-200000-200000-"); /* of the hub and of the second host */
    assert_int_equal(r.received_bytes, LARGE + 6);
    assert_content(SNAPSHOT("model.safetensors"), large, LARGE);
    lckv_free(r.folder);
    hub_stop(&hub);
}

static void a_hub_that_is_ill_is_asked_again_and_then_told_of(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    hub.answer = 503, hub.answers = 1;
    fetch_and_forget(&options);
    hub.answer = 503, hub.answers = 100;
    fetch_fails(&options, LCKV_ERROR_FILE, "the hub answered 503 (no reason given)");
    assert_int_equal(hub.answers, 98); /* tried twice */
    hub.answer = 403, hub.reason = "Access to model org/tiny is restricted";
    fetch_fails(&options, LCKV_ERROR_FILE, "the hub denied access (403, Access to model org/tiny is restricted)");
    assert_int_equal(hub.answers, 97); /* tried once */
    hub.answers = 0;
    options.name = "org/absent";
    fetch_fails(&options, LCKV_ERROR_FILE,
                "repository, revision or file not found on the hub (404, Repository not found)");
    hub_stop(&hub);
    options.retries = 0;
    fetch_fails(&options, LCKV_ERROR_FILE, "network error: ");
}

static bool stop_at_a_third(void *user, const lckv_fetch_progress *p) {
    int *calls = user;
    ++*calls;
    return p->received_bytes < LARGE / 3;
}

static void an_interrupted_fetch_is_gone_on_with(void **state) {
    const folder *f = *state;
    size_t there;
    int calls = 0;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    options.callback = stop_at_a_third;
    options.user = &calls;
    hub.cut_after = LARGE / 2, hub.cuts = 1; /* so that it cannot finish before */
    fetch_fails(&options, LCKV_ERROR_INTERRUPTED, "interrupted");
    assert_true(calls > 1);
    assert_false(file_exists(MODEL("refs/main"))); /* the name does not resolve to an incomplete model */
    free(get(blob_path(f, 1, ".incomplete"), &there));
    assert_in_range(there, LARGE / 3, LARGE / 2);
    options.callback = NULL;
    lckv_fetch_result r = fetch_well(&options);
    assert_int_equal((size_t)r.received_bytes, LARGE - there);
    assert_content(SNAPSHOT("model.safetensors"), large, LARGE);
    lckv_free(r.folder);
    hub_stop(&hub);
}

/* A partial file cannot be used if the host does not support ranges, or if it is damaged or longer than the file. */
static void what_is_there_and_cannot_be_used_is_fetched_anew(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    OK(folder_create(MODEL("blobs")));
    lckv_fetch_options options = asked();
    static char longer[LARGE + 1];
    for (int i = 0; i < 3; i++) {
        unlink(blob_path(f, 1, ""));
        hub.no_ranges = i == 0;
        put(blob_path(f, 1, ".incomplete"), i == 0 ? large : longer, i == 2 ? sizeof longer : 1000);
        fetch_and_forget(&options);
        assert_content(SNAPSHOT("model.safetensors"), large, LARGE);
    }
    hub_stop(&hub);
}

static void a_wrong_checksum_is_no_file(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    hub.damage = true;
    fetch_fails(&options, LCKV_ERROR_FORMAT, "'README.md' has the wrong checksum: expected SHA-1 ce013625");
    hub.files[0] = hub.files[1];
    fetch_fails(&options, LCKV_ERROR_FORMAT, "'model.safetensors' has the wrong checksum: expected SHA-256 ");
    assert_false(file_exists(blob_path(f, 1, "")));
    assert_false(file_exists(blob_path(f, 1, ".incomplete")));
    assert_false(file_exists(SNAPSHOT("model.safetensors")));
    assert_false(file_exists(MODEL("refs/main")));
    hub.damage = false;
    hub.files[0].count--; /* the hub sends a byte less, or more, than its list says */
    hub.listing = "{\"sha\":\"" HUB_COMMIT "\",\"siblings\":[{\"rfilename\":\"deep/er/a b.txt\",\"size\":3,"
                  "\"blobId\":\"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\"}]}";
    fetch_fails(&options, LCKV_ERROR_FORMAT, "the hub sent only 0 of 3 bytes of 'deep/er/a b.txt'");
    hub.files[2] = (hub_content){"deep/er/a b.txt", "abcd", 4, false, ""};
    fetch_fails(&options, LCKV_ERROR_FORMAT, "'deep/er/a b.txt': the hub sent more than the expected 3 bytes");
    hub_stop(&hub);
}

#define ENTRY(path, rest) "{\"sha\":\"" HUB_COMMIT "\",\"siblings\":[{\"rfilename\":\"" path "\"" rest "}]}"
#define GOOD ",\"size\":1,\"blobId\":\"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\""

static void lists_are_not_trusted(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } CASES[] = {
        {"<html>", "answer"},
        {"[]", "expected an object"},
        {"{\"siblings\":[]}", "expected a commit of 40 hexadecimal digits in 'sha', found ''"},
        {"{\"sha\":\"../../../../../../../../../../../../tmp/evil\",\"siblings\":[]}", "expected a commit"},
        {"{\"sha\":\"" HUB_COMMIT "\"}", "expected an array 'siblings'"},
        {"{\"sha\":\"" HUB_COMMIT "\",\"siblings\":[1]}", "expected an object in 'siblings'"},
        {ENTRY("../evil", GOOD), "unsafe path '../evil'"},
        {ENTRY("a/../../evil", GOOD), "unsafe path"},
        {ENTRY("/etc/evil", GOOD), "unsafe path '/etc/evil'"},
        {ENTRY("a//b", GOOD), "unsafe path"},
        {ENTRY("a/", GOOD), "unsafe path"},
        {ENTRY("a\\u000ab", GOOD), "unsafe path"},
        {ENTRY("", GOOD), "unsafe path ''"},
        {ENTRY("a", ",\"blobId\":\"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\""), "'a' has no size"},
        {ENTRY("a", ",\"size\":-5"), "'a' has no size"},
        {ENTRY("a", ",\"size\":1"), "'a' has the blobId '', expected 40 hexadecimal digits"},
        {ENTRY("a", ",\"size\":1,\"blobId\":\"../../../evil\""), "'a' has the blobId '../../../evil'"},
        {ENTRY("a", ",\"size\":1,\"lfs\":{\"sha256\":\"e69de\"}"), "'a' has the SHA-256 'e69de', expected 64"},
        {ENTRY("a", ",\"size\":\"1\""), "size"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        hub_list list;
        int status = hub_list_read(CASES[i].text, strlen(CASES[i].text), "answer", &list);
        if (status != LCKV_ERROR_FORMAT) fail_msg("status %d for %s", status, CASES[i].text);
        if (!strstr(lckv_last_error(), CASES[i].part))
            fail_msg("'%s' does not say '%s'", lckv_last_error(), CASES[i].part);
        assert_null(list.files);
    }
}

static void names_and_places_are_checked_before_the_network(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    static const char *const NAMES[] = {"tiny", "org/tiny/more", "../tiny",   "org/..",
                                        "org/", "/tiny",         "org/ti ny", NULL};
    static const char *const REVISIONS[] = {"",     "../main", "a/../b", "/main", "main/",
                                            ".git", "a b",     "a\nb",   "v1^",   NULL};
    for (const char *const *name = NAMES; *name; name++) {
        options.name = *name;
        fetch_fails(&options, LCKV_ERROR_ARGUMENT, "expected a repository name of the form ORG/NAME");
    }
    options = asked();
    for (const char *const *revision = REVISIONS; *revision; revision++) {
        options.revision = *revision;
        fetch_fails(&options, LCKV_ERROR_ARGUMENT, "expected a branch, tag or commit");
    }
    options = asked();
    setenv("HF_ENDPOINT", "file:///etc", 1);
    fetch_fails(&options, LCKV_ERROR_ARGUMENT, "HF_ENDPOINT must begin with https:// or http://");
    assert_int_equal(hub.requests, 0);
    hub_stop(&hub);
}

/* A limit on file sizes has the effect of a full disk, at a place that the test chooses. */
static void a_full_disk_is_told_and_nothing_is_lost(void **state) {
    const folder *f = *state;
    struct rlimit before, small;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 150000;
    setrlimit(RLIMIT_FSIZE, &small);
    fetch_fails(&options, LCKV_ERROR_FILE, "cannot write '");
    setrlimit(RLIMIT_FSIZE, &before);
    assert_non_null(strstr(lckv_last_error(), ".incomplete': File too large"));
    assert_false(file_exists(MODEL("refs/main")));
    lckv_fetch_result r = fetch_well(&options);
    assert_int_equal(r.received_bytes, LARGE - 150000); /* the rest */
    lckv_free(r.folder);
    hub.listing = "{\"sha\":\"" HUB_COMMIT "\",\"siblings\":[{\"rfilename\":\"a\",\"size\":4000000000000000000,"
                  "\"blobId\":\"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\"}]}";
    fetch_fails(&options, LCKV_ERROR_FILE, "not enough disk space: 4000000000.00 GB required in '");
    hub_stop(&hub);
}

static bool let_go(void *user, const lckv_fetch_progress *p) {
    int *lock = user;
    if (*lock >= 0 && p->file_index == 1) {
        assert_int_equal(p->received_bytes,
                         6); /* the large file is not downloaded while another process downloads it */
        close(*lock);
        *lock = -1;
    }
    return true;
}

static void a_file_that_another_process_brings_is_waited_for(void **state) {
    const folder *f = *state;
    char name[256];
    surround_with_model(f);
    OK(folder_create(in(f, "cache/.locks/models--org--tiny")));
    snprintf(name, sizeof name, "cache/.locks/models--org--tiny/%s.lock", hub.files[1].blob);
    int lock = open(in(f, name), O_RDWR | O_CREAT, 0666);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    lckv_fetch_options options = asked();
    options.callback = let_go;
    options.user = &lock;
    fetch_and_forget(&options);
    assert_int_equal(lock, -1);
    hub_stop(&hub);
}

static void *fetch_in_thread(void *user) {
    lckv_fetch_result result;
    lckv_fetch_options options = asked();
    int status = lckv_fetch(&options, &result);
    if (status < 0) snprintf(user, 512, "%s", lckv_last_error());
    lckv_free(result.folder);
    return NULL;
}

/* Four threads and four processes download the same files into an empty cache: all succeed, and all files are complete.
 */
static void many_fetch_the_same_at_once(void **state) {
    enum { ROUNDS = 8, EACH = 4 };
    const folder *f = *state;
    surround_with_model(f);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[EACH];
        pid_t children[EACH];
        static char errors[EACH][512];
        int output = open("/dev/null", O_WRONLY);
        OK(folder_remove(in(f, "cache")));
        for (int i = 0; i < EACH; i++)
            children[i] = program_start(f, (const char *const[]){"fetch", "org/tiny", NULL}, output);
        for (int i = 0; i < EACH; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, fetch_in_thread, errors[i]), 0);
        for (int i = 0; i < EACH; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < EACH; i++) {
            size_t bytes;
            if (*errors[i]) fail_msg("%s", errors[i]);
            if (program_wait(children[i])) fail_msg("%s", get(in(f, "stderr"), &bytes));
        }
        close(output);
        assert_content(MODEL("refs/main"), HUB_COMMIT, 40);
        assert_content(SNAPSHOT("model.safetensors"), large, LARGE);
        assert_content(SNAPSHOT("README.md"), "hello\n", 6);
        assert_int_equal(entries_in(MODEL("refs")), 1);
        assert_int_equal(entries_in(MODEL("blobs")), 3);
        assert_int_equal(entries_in(MODEL("snapshots/" HUB_COMMIT)), 3);
    }
    hub_stop(&hub);
}

static void the_command_prints_the_folder(void **state) {
    const folder *f = *state;
    surround_with_model(f);
    lckv_fetch_options options = asked();
    options.revision = "main";
    fetch_and_forget(&options);
    json_t *result = RUN_JSON(f, "fetch", "org/tiny");
    assert_string_equal(json_string_value(json_object_get(result, "commit")), HUB_COMMIT);
    assert_int_equal(json_integer_value(json_object_get(result, "received_bytes")), 0);
    json_decref(result);
    outcome o = RUN(f, "fetch", "--name=org/tiny", "--include", "*.md");
    assert_int_equal(o.code, 0);
    assert_string_equal(o.output, in(f, "cache/models--org--tiny/snapshots/" HUB_COMMIT "\n"));
    assert_non_null(strstr(o.messages, "1 file, 6 B (0 B downloaded); commit 0123456789ab"));
    outcome_free(&o);
    REFUSES(f, 1, "lckv fetch: repository, revision or file not found", "fetch", "org/absent");
    REFUSES(f, 2, "--name is required", "fetch");
    REFUSES(f, 2, "--repo_type: expected one of model|dataset", "fetch", "org/tiny", "--repo_type", "space");
    hub_stop(&hub);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_cache_is_laid_out_as_huggingface_hub_does),
        IN_FOLDER(a_data_set_has_its_own_place_and_patterns_choose_files),
        IN_FOLDER(the_token_goes_to_the_hub_alone),
        IN_FOLDER(a_broken_connection_goes_on_where_it_broke),
        IN_FOLDER(a_hub_that_is_ill_is_asked_again_and_then_told_of),
        IN_FOLDER(an_interrupted_fetch_is_gone_on_with),
        IN_FOLDER(what_is_there_and_cannot_be_used_is_fetched_anew),
        IN_FOLDER(a_wrong_checksum_is_no_file),
        cmocka_unit_test(lists_are_not_trusted),
        IN_FOLDER(names_and_places_are_checked_before_the_network),
        IN_FOLDER(a_full_disk_is_told_and_nothing_is_lost),
        IN_FOLDER(a_file_that_another_process_brings_is_waited_for),
        IN_FOLDER(many_fetch_the_same_at_once),
        IN_FOLDER(the_command_prints_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
