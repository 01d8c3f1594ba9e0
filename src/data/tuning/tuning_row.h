/* Normalizes rows of instruction data as trl's SFTTrainer (0.24) does before it determines their type.
 *
 *   - Keys with the value null are removed at every depth. Tables (Parquet, and everything that the datasets library
 * loads) have null if a row lacks a key that other rows have (trl: remove_none_values).
 *   - Messages with `from` and `value` under `conversations` become messages with `role` and `content` under `messages`
 *     (trl: maybe_convert_to_chatml). The names of roles do not change. */
#ifndef DATA_TUNING_TUNING_ROW_H
#define DATA_TUNING_TUNING_ROW_H

#include "base/text/json.h"

/* Returns a normalized copy of an object, a new reference. */
int tuning_row_convert(const json_t *row, json_t **out);

/* The first role in `messages` that is not system, user, assistant or tool, so that chat templates may not support it;
 * NULL if there is none. Owned by the row. */
const char *tuning_row_foreign_role(const json_t *row);

/* The reason why a row matches no type, for an error message; NULL if there is no specific reason. */
const char *tuning_row_objection(const json_t *row);

#endif
