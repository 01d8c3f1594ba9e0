/* The pre-tokenizers that GGUF files name, see gguf_pre_tokenizer.h. */
#include "text/gguf/gguf_pre_tokenizer.h"

#include <stdio.h>
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define PUNCTUATION " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define PUNCTUATION_AND_SLASHES " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* A word in which upper case comes before lower case. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE_WORD "[^\\r\\n\\p{L}\\p{N}]?"

static const gguf_pre_tokenizer table[] = {
    {"gpt-2", .gpt2 = true},
    {"smollm starcoder refact codeshell exaone minerva-7b", .digits = true, .gpt2 = true},
    {"llama-bpe llama3 llama-v3 falcon3",
     {CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}|" PUNCTUATION "|" SPACES},
     .ignore_merges = true,
     .adds_bos = true},
    {"smaug-bpe dbrx", {CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}|" PUNCTUATION "|" SPACES}},
    {"qwen2 deepseek-r1-qwen", {CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}|" PUNCTUATION "|" SPACES}, .nfc = true},
    {"tekken",
     {BEFORE_WORD UPPER "*" LOWER "+|" BEFORE_WORD UPPER "+" LOWER "*|\\p{N}|" PUNCTUATION_AND_SLASHES "|" SPACES},
     .ignore_merges = true,
     .adds_bos = true},
    {"gpt-4o",
     {BEFORE_WORD UPPER "*" LOWER "+" CONTRACTIONS "?|" BEFORE_WORD UPPER "+" LOWER "*" CONTRACTIONS
                        "?|\\p{N}{1,3}|" PUNCTUATION_AND_SLASHES "|" SPACES}},
    {"deepseek-coder", {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+"}, .digits = true},
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
};

enum { ENTRIES = sizeof table / sizeof *table, EXPRESSIONS = 4 };

const gguf_pre_tokenizer *gguf_pre_tokenizer_named(gguf_text name) {
    for (int i = 0; i < ENTRIES; i++)
        for (const char *at = table[i].names; *at;) {
            size_t bytes = strcspn(at, " ");
            if (bytes == name.bytes && memcmp(at, name.data, bytes) == 0) return &table[i];
            at += bytes + (at[bytes] == ' ');
        }
    return NULL;
}

static json_t *split_at(const char *expression) {
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", expression, "behavior",
                     "Isolated", "invert", 0);
}

json_t *gguf_pre_tokenizer_json(const gguf_pre_tokenizer *p) {
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                              "use_regex", p->gpt2);
    if (p->gpt2 && !p->digits && !p->expressions[0]) return bytes;
    json_t *steps = json_array();
    int failed = 0;
    for (int i = 0; i < EXPRESSIONS && p->expressions[i]; i++)
        failed += json_array_append_new(steps, split_at(p->expressions[i]));
    if (p->digits)
        failed += json_array_append_new(steps, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    failed += json_array_append_new(steps, bytes);
    json_t *sequence = json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
    if (!failed) return sequence;
    json_decref(sequence);
    return NULL;
}

json_t *gguf_normalizer_json(const gguf_pre_tokenizer *p) {
    return p->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
}

/* ---------------------------------------------------------------- which one a tokenizer.json has */

/* Removes what does not affect the ids, such as trim_offsets, from a copy. A sequence of one step is that step. */
static json_t *essence(const json_t *given) {
    json_t *copy = given ? json_deep_copy(given) : json_null(), *steps = json_object_get(copy, "pretokenizers"), *step;
    size_t index;
    json_object_del(copy, "trim_offsets");
    json_array_foreach(steps, index, step) json_object_del(step, "trim_offsets");
    if (!steps) steps = json_object_get(copy, "normalizers");
    if (json_array_size(steps) != 1) return copy;
    step = json_incref(json_array_get(steps, 0));
    json_decref(copy);
    return step;
}

static int same_part(const json_t *given, json_t *made, bool *same) {
    json_t *a = essence(given), *b = essence(made);
    *same = a && b && json_equal(a, b);
    int status = a && b && made ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory to compare tokenizers");
    json_decref(a);
    json_decref(b);
    json_decref(made);
    return status;
}

int gguf_pre_tokenizer_of(const json_t *tokenizer, const gguf_pre_tokenizer **out) {
    bool ignores = json_is_true(json_object_get(json_object_get(tokenizer, "model"), "ignore_merges"));
    *out = NULL;
    for (int i = 0; i < ENTRIES && !*out; i++) {
        bool same, same_normalizer;
        TRY(same_part(json_object_get(tokenizer, "pre_tokenizer"), gguf_pre_tokenizer_json(&table[i]), &same));
        TRY(same_part(json_object_get(tokenizer, "normalizer"), gguf_normalizer_json(&table[i]), &same_normalizer));
        if (same && same_normalizer && ignores == table[i].ignore_merges) *out = &table[i];
    }
    return LCKV_OK;
}
