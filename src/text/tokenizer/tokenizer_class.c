/* Tokenizer classes of the transformers library, see tokenizer_class.h. The table follows the constructors of
 * version 4.57, and of 5.24 for classes that are new there. */
#include "text/tokenizer/tokenizer_class.h"

#include "base/text/json.h"

#include <stdio.h>
#include <string.h>

const char *const special_token_keys[SPECIAL_COUNT] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                       "pad_token", "cls_token", "mask_token"};

#define END_OF_TEXT "<|endoftext|>"

enum { CLASS_NONE, CLASS_BACKEND };

static const tokenizer_class classes[] = {
    [CLASS_NONE] = {.name = ""},
    [CLASS_BACKEND] = {.name = "TokenizersBackend"}, /* of 5.24 */
    {.name = "PreTrainedTokenizer", .prefix = PREFIX_TOP},
    {.name = "LlamaTokenizer",
     .special = {"<s>", "</s>", "<unk>"},
     .surrounds = true,
     .adds_bos = true,
     .prefix = PREFIX_REBUILT},
    {.name = "CodeLlamaTokenizer",
     .special = {"<s>", "</s>", "<unk>"},
     .more = MORE_CODE_LLAMA,
     .surrounds = true,
     .adds_bos = true,
     .prefix = PREFIX_TOP},
    {.name = "GemmaTokenizer",
     .special = {"<bos>", "<eos>", "<unk>", NULL, "<pad>"},
     .surrounds = true,
     .adds_bos = true,
     .prefix = PREFIX_TOP},
    {.name = "CohereTokenizer",
     .special = {"<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>"},
     .surrounds = true,
     .adds_bos = true,
     .prefix = PREFIX_EVERYWHERE},
    {.name = "GPTNeoXTokenizer",
     .special = {END_OF_TEXT, END_OF_TEXT, END_OF_TEXT},
     .surrounds = true,
     .prefix = PREFIX_TOP},
    {.name = "GPT2Tokenizer", .special = {END_OF_TEXT, END_OF_TEXT, END_OF_TEXT}, .prefix = PREFIX_TOP},
    {.name = "CodeGenTokenizer", .special = {END_OF_TEXT, END_OF_TEXT, END_OF_TEXT}, .prefix = PREFIX_TOP},
    {.name = "Qwen2Tokenizer",
     .special = {NULL, END_OF_TEXT, END_OF_TEXT, NULL, END_OF_TEXT},
     .own_tokens = true,
     .prefix = PREFIX_TOP},
    {.name = "Qwen3_5Tokenizer", .special = {NULL, END_OF_TEXT, END_OF_TEXT, NULL, END_OF_TEXT}},
    {.name = "BloomTokenizer", .special = {"<s>", "</s>", "<unk>", NULL, "<pad>"}, .prefix = PREFIX_EVERYWHERE},
    {.name = "T5Tokenizer",
     .special = {NULL, "</s>", "<unk>", NULL, "<pad>"},
     .more = MORE_T5,
     .prefix = PREFIX_REBUILT},
    {.name = "MT5Tokenizer",
     .special = {NULL, "</s>", "<unk>", NULL, "<pad>"},
     .more = MORE_T5,
     .prefix = PREFIX_REBUILT},
    {.name = "XGLMTokenizer",
     .special = {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>"},
     .more = MORE_XGLM,
     .prefix = PREFIX_TOP},
};

/* Classes of transformers that are not supported: they replace parts of tokenizer.json, or have no such file. */
static const char refused[] =
    " Albert Bart Barthez Bartpho BertGeneration BertJapanese Bert Bertweet BigBird BioGpt BlenderbotSmall Blenderbot "
    "ByT5 CLIP CTRL Camembert Canine Clvp ConvBert CpmAnt Cpm DPRContextEncoder DPRQuestionEncoder DPRReader Deberta "
    "DebertaV2 Dia DistilBert Electra ErnieM Esm Esmc FNet FSMT FastSpeech2Conformer Flaubert Funnel GPTNeoXJapanese "
    "GPTSanJapanese GPTSw3 Herbert Jukebox LED Lasr LayoutLM LayoutLMv2 LayoutLMv3 LayoutXLM Longformer Luke Lxmert "
    "M2M100 MBart50 MBart MLuke MPNet Marian MarkupLM Mgpstr MistralCommon MobileBert Mvp MyT5 Nllb Nougat OpenAIGPT "
    "PLBart Parakeet ParakeetCTC Pegasus Perceiver Phobert Pop2Piano ProphetNet Rag Realm Reformer RemBert RetriBert "
    "RoCBert RoFormer Roberta SeamlessM4T Siglip2 Siglip Speech2Text2 Speech2Text SpeechT5 Splinter SqueezeBert Tapas "
    "Tapex Tipsv2 TransfoXL Udop VideoPrism Vits Wav2Vec2CTC Wav2Vec2PhonemeCTC Wav2Vec2 Whisper XLMProphetNet "
    "XLMRoberta XLM XLNet ";

/* Model types whose config names no class: the class that 4.57 uses. */
static const char *const of_types[][2] = {
    {"llama", "LlamaTokenizer"},        {"mistral", "LlamaTokenizer"}, {"mixtral", "LlamaTokenizer"},
    {"qwen2", "Qwen2Tokenizer"},        {"qwen3", "Qwen2Tokenizer"},   {"gemma", "GemmaTokenizer"},
    {"gemma2", "GemmaTokenizer"},       {"gemma3", "GemmaTokenizer"},  {"gemma3_text", "GemmaTokenizer"},
    {"gemma3n_text", "GemmaTokenizer"}, {"cohere", "CohereTokenizer"}, {"cohere2", "CohereTokenizer"},
    {"gpt_neox", "GPTNeoXTokenizer"},   {"gpt2", "GPT2Tokenizer"},     {"starcoder2", "GPT2Tokenizer"},
    {"phi3", "LlamaTokenizer"},         {"phi", "CodeGenTokenizer"},   {"bloom", "BloomTokenizer"},
};

static const tokenizer_class *find(const char *name, size_t bytes) {
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strlen(classes[i].name) == bytes && !memcmp(classes[i].name, name, bytes)) return &classes[i];
    return NULL;
}

/* "BertTokenizer" etc.; `refused` lists them without "Tokenizer". */
static bool is_refused(const char *name, size_t bytes) {
    static const char last[] = "Tokenizer";
    char word[64];
    if (bytes < sizeof last || bytes >= sizeof word || memcmp(name + bytes - (sizeof last - 1), last, sizeof last - 1))
        return false;
    snprintf(word, sizeof word, " %.*s ", (int)(bytes - (sizeof last - 1)), name);
    return strstr(refused, word) != NULL;
}

/* The name in `tokenizer_class`; NULL if there is none. */
static int class_name(const json_t *file, const char *name, const char **out) {
    *out = NULL;
    return file ? json_get_string(file, name, "tokenizer_class", NULL, out) : LCKV_OK;
}

static const char *class_of_type(const json_t *model) {
    const char *type = json_string_value(json_object_get(model, "model_type"));
    for (size_t i = 0; type && i < sizeof of_types / sizeof *of_types; i++)
        if (!strcmp(type, of_types[i][0])) return of_types[i][1];
    return "";
}

static bool is_code_of_folder(const json_t *config) {
    const json_t *map = json_object_get(config, "auto_map");
    const json_t *code = json_is_object(map) ? json_object_get(map, "AutoTokenizer") : map;
    return code && !json_is_null(code);
}

int tokenizer_class_of(const json_t *config, const json_t *model, const char *name, const tokenizer_class **out) {
    const char *given;
    TRY(class_name(config, name, &given));
    if (!given) TRY(class_name(model, name, &given));
    if (!given) given = class_of_type(model);
    size_t bytes = strlen(given);
    if (bytes > 4 && !strcmp(given + bytes - 4, "Fast")) bytes -= 4;
    const tokenizer_class *found = find(given, bytes);
    REQUIRE(
        found || !is_refused(given, bytes), LCKV_ERROR_UNSUPPORTED,
        "%s: the tokenizer_class '%.60s' changes tokenizer.json in ways that are not supported; to use tokenizer.json "
        "unchanged, set tokenizer_class to \"PreTrainedTokenizerFast\"",
        name, given);
    REQUIRE(found || !is_code_of_folder(config), LCKV_ERROR_UNSUPPORTED,
            "%s: the tokenizer_class '%.60s' is Python code of this folder ('auto_map'), which lckv does not run; to "
            "use tokenizer.json unchanged, set tokenizer_class to \"PreTrainedTokenizerFast\" and remove 'auto_map'",
            name, given);
    *out = found ? found : &classes[CLASS_BACKEND]; /* as 5.24 opens an unknown class */
    return LCKV_OK;
}
