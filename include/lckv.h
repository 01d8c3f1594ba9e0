/* lckv.h - the public interface of liblckv.
 *
 * liblckv trains, converts and runs decoder language models whose layers share keys and values (KV). One string,
 * `layer_types`, says which layer reads whose KV. docs/model.md defines the terms, docs/library.md walks through
 * examples.
 *
 * Contents. Programs include lckv.h only: later versions may move a declaration to another of these files.
 *   lckv/base.h        errors, log, memory, checks of text, files
 *   lckv/configs.h     configs
 *   lckv/devices.h     devices, processes
 *   lckv/models.h      models, conversion
 *   lckv/text.h        tokenizers, chat templates
 *   lckv/downloads.h   downloads
 *   lckv/training.h    training
 *   lckv/generation.h  generation
 *   lckv/engine.h      the engine (continuous batching)
 *   lckv/evaluation.h  scoring, evaluation, perplexity
 *   lckv/estimates.h   memory estimates
 *
 * Conventions. They hold for every function unless its comment says otherwise.
 *
 * Errors. A function that can fail returns LCKV_OK or a negative lckv_status. After a failure, lckv_last_error()
 * returns one sentence that says what was expected, what was found, and where. The library never exits and never
 * prints; lckv_set_log() passes its messages to the caller.
 *
 * Ownership. On failure `*out` is NULL and the caller owns nothing new. Arguments remain the caller's; the library
 * copies what it keeps. The caller frees returned strings and arrays with lckv_free(), and each handle with the
 * function of its type. All of these functions accept NULL.
 *
 * Strings are UTF-8 and end in NUL.
 *
 * Options. Get an options struct from its lckv_..._defaults() function, then change fields:
 *     lckv_generate_options options = lckv_generate_defaults();
 *     options.length = 100;
 * `struct_size` is the size of the struct in the lckv.h that your program was compiled with. The library reads only
 * that part and uses defaults for the rest, so that later versions can add fields without breaking programs. If
 * struct_size is 0, or if a field is set that an older library does not know, the function fails. The lckv_..._init()
 * functions fill the first `struct_size` bytes of a struct; use them from other languages. Where a function takes
 * options, NULL stands for the defaults. The comment of a field states its meaning, its unit, its default, and what 0
 * or NULL does.
 *
 * Threads. Use a handle from one thread at a time. Different handles may be used from different threads.
 *
 * Names. A NAME_OR_PATH is a folder, a GGUF file, or ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, HF_HOME, or the
 * default folder). lckv looks only in the cache; lckv_fetch() downloads. */
#ifndef LCKV_H
#define LCKV_H

#include "lckv/base.h"
#include "lckv/configs.h"
#include "lckv/devices.h"
#include "lckv/downloads.h"
#include "lckv/engine.h"
#include "lckv/estimates.h"
#include "lckv/evaluation.h"
#include "lckv/generation.h"
#include "lckv/models.h"
#include "lckv/text.h"
#include "lckv/training.h"

#endif
