/* The post-processor of a tokenizer file, see post_processor.h. */
#include "text/tokenizer/steps/post_processor.h"

#include "text/subword/component.h"

#include <inttypes.h>
#include <string.h>

/* The ids of a template's {"SpecialToken": {"id": NAME}}. */
static int append_special(const component *c, const json_t *special, const vocabulary *v, id_list *out) {
    const char *name = json_string_value(json_object_get(special, "id"));
    const json_t *known = json_object_get(c->object, "special_tokens");
    const json_t *ids = name ? json_object_get(json_object_get(known, name), "ids") : NULL, *value;
    size_t index;
    REQUIRE(json_is_array(ids), LCKV_ERROR_FORMAT,
            "%s: 'single' names the special token '%.60s', which 'special_tokens' lacks", c->where, name ? name : "?");
    json_array_foreach((json_t *)(uintptr_t)ids, index, value) {
        REQUIRE(json_is_integer(value) && vocabulary_entry(v, json_integer_value(value)), LCKV_ERROR_FORMAT,
                "%s: the special token '%.60s' has an id without a token", c->where, name);
        REQUIRE(out->count < POST_PROCESSOR_MAX_IDS, LCKV_ERROR_UNSUPPORTED,
                "%s: 'single' has more than %d ids before or after the text", c->where, POST_PROCESSOR_MAX_IDS);
        TRY(id_list_append(out, &(int32_t){(int32_t)json_integer_value(value)}, 1));
    }
    return LCKV_OK;
}

/* Reads the ids that `single` has before and after the text, which must occur once. */
static int read_template(post_processor *out, const component *c, const vocabulary *v) {
    const json_t *single, *item;
    size_t index;
    int texts = 0;
    REQUIRE(!out->before.count && !out->after.count, LCKV_ERROR_UNSUPPORTED, "%s: a second template is not supported",
            c->where);
    TRY(component_keys(c, "single pair special_tokens"));
    TRY(component_list(c, "single", &single));
    json_array_foreach((json_t *)(uintptr_t)single, index, item) {
        const json_t *special = json_object_get(item, "SpecialToken"), *text = json_object_get(item, "Sequence");
        const char *sequence = json_string_value(json_object_get(text, "id"));
        REQUIRE(special || (sequence && !strcmp(sequence, "A")), LCKV_ERROR_UNSUPPORTED,
                "%s: entry %zu of 'single' is neither a SpecialToken nor the Sequence A", c->where, index);
        if (special)
            TRY(append_special(c, special, v, texts ? &out->after : &out->before));
        else
            texts++;
    }
    REQUIRE(texts == 1, LCKV_ERROR_UNSUPPORTED, "%s: 'single' contains the text %d times, expected once", c->where,
            texts);
    return LCKV_OK;
}

/* The pair ["token", id] that the post-processors of BERT and RoBERTa put at one end of a text. */
static int read_end(const component *c, const char *key, const vocabulary *v, id_list *out) {
    const json_t *pair = json_object_get(c->object, key), *id = json_array_get(pair, 1);
    REQUIRE(json_array_size(pair) == 2 && json_is_integer(id) && vocabulary_entry(v, json_integer_value(id)),
            LCKV_ERROR_FORMAT, "%s: '%s' should be [\"token\", id] with the id of a token", c->where, key);
    return id_list_append(out, &(int32_t){(int32_t)json_integer_value(id)}, 1);
}

static int read_ends(post_processor *out, const component *c, const vocabulary *v) {
    REQUIRE(!out->before.count && !out->after.count, LCKV_ERROR_UNSUPPORTED, "%s: a second template is not supported",
            c->where);
    TRY(component_keys(c, "sep cls trim_offsets add_prefix_space"));
    TRY(read_end(c, "cls", v, &out->before));
    return read_end(c, "sep", v, &out->after);
}

static int read_sequence(post_processor *p, const component *c, const vocabulary *v, const char *file) {
    const json_t *list, *item;
    size_t index;
    TRY(component_keys(c, "processors"));
    TRY(component_list(c, "processors", &list));
    json_array_foreach((json_t *)(uintptr_t)list, index, item) {
        REQUIRE(json_is_object(item), LCKV_ERROR_FORMAT, "%s: entry %zu should be an object", c->where, index);
        TRY(post_processor_read(p, item, v, file));
    }
    return LCKV_OK;
}

int post_processor_read(post_processor *p, const json_t *config, const vocabulary *v, const char *file) {
    component c;
    if (!config || json_is_null(config)) return LCKV_OK;
    TRY(component_open(config, file, "post_processor", NULL, &c));
    if (!strcmp(c.type, "Sequence")) return read_sequence(p, &c, v, file);
    if (!strcmp(c.type, "TemplateProcessing")) return read_template(p, &c, v);
    if (!strcmp(c.type, "BertProcessing") || !strcmp(c.type, "RobertaProcessing")) return read_ends(p, &c, v);
    if (!strcmp(c.type, "ByteLevel")) return component_keys(&c, "add_prefix_space trim_offsets use_regex");
    return component_unsupported(&c);
}

void post_processor_free(post_processor *p) {
    id_list_free(&p->before);
    id_list_free(&p->after);
}
