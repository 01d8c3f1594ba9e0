/* Writes an adapter (model/adapter.h) as a folder that peft reads; adapter_file.h reads it. */
#ifndef IO_ADAPTER_SAVE_H
#define IO_ADAPTER_SAVE_H

#include "model/adapter.h"

typedef struct adapter_save_options {
    dtype type;                /* in the file */
    const char *base;          /* base_model_name_or_path; NULL: null */
    const char *tokenizer;     /* folder to copy the tokenizer files from; NULL: none */
    const char *chat_template; /* text to write as chat_template.jinja; NULL: copy that folder's */
    /* Copies the values of some elements of an entry of the adapter's table into host memory. */
    int (*values)(void *user, int entry, element_range range, dtype type, void *host);
    void *user;
} adapter_save_options;

/* Writes config, tokenizer files and weights, in this order. Each file is complete or not written at all. */
int adapter_save(const adapter *a, const adapter_save_options *options, const char *folder);

#endif
