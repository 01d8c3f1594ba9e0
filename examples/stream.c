/* Prints a text while it is generated and stops after the first sentence: stream MODEL PROMPT */
#include <lckv.h>
#include <stdio.h>
#include <string.h>

/* Called for each token, and with NULL after a step without one. Returns false to stop. */
static bool on_token(void *user, const lckv_token *token) {
    int *tokens = user;
    if (!token) return true;
    ++*tokens;
    fwrite(token->text, 1, token->text_bytes, stdout);
    fflush(stdout);
    return !memchr(token->text, '.', token->text_bytes);
}

static int stream(lckv_model *model, lckv_tokenizer *tokenizer, const char *prompt) {
    int tokens = 0;
    int32_t *ids;
    size_t count;
    lckv_generation *result;
    lckv_generate_options options = lckv_generate_defaults();
    options.length = 200;
    options.callback = on_token;
    options.user = &tokens;

    int status = lckv_tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &ids, &count);
    if (status < 0) return status;
    lckv_prompt given = {ids, (int64_t)count};
    status = lckv_generate(model, tokenizer, &given, 1, &options, &result);
    printf("\n%d tokens, %s\n", tokens, status == LCKV_ERROR_INTERRUPTED ? "stopped by the callback" : "complete");
    lckv_generation_free(result);
    lckv_free(ids);
    return status == LCKV_ERROR_INTERRUPTED ? LCKV_OK : status;
}

int main(int argc, char **argv) {
    lckv_device *device = NULL;
    lckv_model *model = NULL;
    lckv_tokenizer *tokenizer = NULL;
    if (argc != 3) return fprintf(stderr, "usage: stream MODEL PROMPT\n"), 2;
    int status = lckv_device_open("auto", 0, &device);
    if (status >= 0) status = lckv_model_open(device, argv[1], NULL, &model);
    if (status >= 0) status = lckv_tokenizer_open(argv[1], &tokenizer);
    if (status >= 0) status = stream(model, tokenizer, argv[2]);
    if (status < 0) fprintf(stderr, "error: %s\n", lckv_last_error());
    lckv_tokenizer_free(tokenizer);
    lckv_model_free(model);
    lckv_device_close(device);
    return status < 0;
}
