/* Writes an adapter (model/adapter.h) as a folder that peft reads; adapter_file.h reads it. */
#ifndef IO_ADAPTER_SAVE_H
#define IO_ADAPTER_SAVE_H

#include "model/adapter.h"

typedef struct adapter_save_options {
    dtype type;                /* on disk */
    const char *base;          /* base_model_name_or_path; NULL: null */
    const char *tokenizer;     /* folder that tokenizer files are taken from; NULL: none */
    const char *chat_template; /* text to write as chat_template.jinja; NULL: that folder's */
    /* Puts the values of an entry of the adapter's table into host memory. */
    int (*values)(void *user, int entry, dtype type, void *host);
    void *user;
} adapter_save_options;

/* Writes config, tokenizer files and weights, in this order, each whole or not at all (as checkpoint_save()). */
int adapter_save(const adapter *a, const adapter_save_options *options, const char *folder);

#endif
