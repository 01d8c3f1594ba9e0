/* Rows of instruction data as trl's SFTTrainer (0.24) has them before it looks at what they are.
 *
 *   - Keys with null are removed at every depth: tables (Parquet, and whatever the datasets library loads) have null
 *     where a row lacks a key that others have (trl: remove_none_values).
 *   - Messages with `from` and `value` under `conversations` become messages with `role` and `content` under `messages`
 *     (trl: maybe_convert_to_chatml). The names of roles stay as they are. */
#ifndef DATA_ROW_SHAPE_H
#define DATA_ROW_SHAPE_H

#include "base/json.h"

/* A new reference: the converted copy of an object. */
int tuning_row_convert(const json_t *row, json_t **out);

/* The first role of `messages` that is not system, user, assistant or tool, which a chat template may not know; NULL:
 * there is none. It is the row's. */
const char *tuning_row_foreign_role(const json_t *row);

/* Why a row that no kind of rows fits is none, for an error; NULL where nothing better can be said than what is read.
 */
const char *tuning_row_objection(const json_t *row);

#endif
