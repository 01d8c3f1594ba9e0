/* A small tokenizer for tests: three special tokens (<unk> 0, <s> 1, </s> 2), the bytes as tokens 3 to 258, and the
 * words below. Normalizer and decoder are those of Llama. */
#ifndef TESTS_SMALL_TOKENIZER_H
#define TESTS_SMALL_TOKENIZER_H

#include "base/text/text_buffer.h"

#include "folder_fixture.h"

enum { BYTE_TOKEN = 3, WORD_TOKEN = 259 };

static const char *const small_words[] = {"▁", "▁the", "▁cat", "▁sat", "▁on", "st", "op", "▁stop",
                                          "e", "é",    "ing",  ".",    "a",   "b",  "▁a", "▁b"};
enum { SMALL_WORDS = sizeof small_words / sizeof *small_words, SMALL_VOCAB = WORD_TOKEN + SMALL_WORDS };

static inline int32_t word_token(const char *word) {
    for (int32_t i = 0; i < SMALL_WORDS; i++)
        if (!strcmp(small_words[i], word)) return WORD_TOKEN + i;
    return -1;
}

/* Writes tokenizer.json to the folder; the tokenizer adds BOS. */
static inline void small_tokenizer_write(const folder *f) {
    text_buffer b = {0};
    OK(text_printf(&b, "{\"version\":\"1.0\",\"added_tokens\":["));
    for (int i = 0; i < 3; i++)
        OK(text_printf(&b,
                       "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                       "\"normalized\":false,\"special\":true}",
                       i ? "," : "", i, (const char *[]){"<unk>", "<s>", "</s>"}[i]));
    OK(text_printf(&b,
                   "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},"
                   "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]},"
                   "\"pre_tokenizer\":null,\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                   "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
                   "\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
                   "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}},"
                   "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
                   "\"▁\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
                   "\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
                   "\"unk_token\":\"<unk>\",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                   "\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false,\"vocab\":{"
                   "\"<unk>\":0,\"<s>\":1,\"</s>\":2"));
    for (int i = 0; i < 256; i++) OK(text_printf(&b, ",\"<0x%02X>\":%d", (unsigned)i, BYTE_TOKEN + i));
    for (int i = 0; i < SMALL_WORDS; i++) OK(text_printf(&b, ",\"%s\":%d", small_words[i], WORD_TOKEN + i));
    OK(text_printf(&b, "},\"merges\":[\"▁ a\",\"▁ b\"]}}"));
    put(in(f, "tokenizer.json"), b.data, b.length);
    text_free(&b);
}

static inline lckv_tokenizer *small_tokenizer(const folder *f) {
    lckv_tokenizer *t;
    small_tokenizer_write(f);
    OK(lckv_tokenizer_open(f->path, &t));
    return t;
}

#endif
