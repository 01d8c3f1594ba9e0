/* Loads a model and continues a prompt: generate MODEL PROMPT */
#include <lckv.h>
#include <stdio.h>
#include <string.h>

static int generate(lckv_device *device, const char *name, const char *prompt) {
    lckv_model *model = NULL;
    lckv_tokenizer *tokenizer = NULL;
    lckv_generation *result = NULL;
    int32_t *ids = NULL;
    size_t count = 0;
    lckv_generate_options options = lckv_generate_defaults();
    options.length = 40;

    int status = lckv_model_open(device, name, NULL, &model);
    if (status >= 0) status = lckv_tokenizer_open(name, &tokenizer);
    if (status >= 0) status = lckv_tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &ids, &count);
    lckv_prompt given = {ids, (int64_t)count};
    if (status >= 0) status = lckv_generate(model, tokenizer, &given, 1, &options, &result);
    if (status >= 0) printf("%s%s\n", prompt, result->sequences[0].text);

    lckv_generation_free(result);
    lckv_free(ids);
    lckv_tokenizer_free(tokenizer);
    lckv_model_free(model);
    return status;
}

int main(int argc, char **argv) {
    lckv_device *device;
    if (argc != 3) return fprintf(stderr, "usage: generate MODEL PROMPT\n"), 2;
    int status = lckv_device_open("auto", 0, &device);
    if (status >= 0) status = generate(device, argv[1], argv[2]);
    if (status < 0) fprintf(stderr, "error: %s\n", lckv_last_error());
    lckv_device_close(device);
    return status < 0;
}
