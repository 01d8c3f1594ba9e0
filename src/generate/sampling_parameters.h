/* Sampling parameters, one row each. A row defines the defaults and the check of a request, the copies between option
 * structs, the field of a JSON request, the flag of `lckv generate` and `lckv chat`, and the setting of the chat. The
 * structs lckv_request, lckv_generate_options and sample_row declare the fields; a row without its field does not
 * compile. This file contains only macros, so that cli and serve can include it.
 *
 *     X(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, json_min, json_max,
 *       flag, flag_min, flag_max, help)
 *
 *   name                              field of the structs and of a JSON request, setting of the chat
 *   KIND                              INT (int64_t) or NUMBER (double)
 *   in_request, in_generate, in_chat  defaults of requests, of `lckv generate`, and of `lckv chat`
 *   valid_min, valid_max, valid       values that the library accepts, both ends included, and their name in errors
 *   json_min, json_max                values that the server accepts
 *   flag, flag_min, flag_max, help    name of the flag, values that it accepts, and its help text
 */
#ifndef GENERATE_SAMPLING_PARAMETERS_H
#define GENERATE_SAMPLING_PARAMETERS_H

#include <float.h>
#include <math.h>
#include <stdint.h>

/* clang-format off */
#define SAMPLING_PARAMETERS(X)                                                                                         \
    X(temperature, NUMBER, 1.0, 1.0, 1.0, 0, DBL_MAX, "0 (greedy) or more", 0, 100,                                    \
      temperature, 0, INFINITY, "sampling temperature; 0 always picks the most probable token")                        \
    X(top_k, INT, 0, 0, 50, 0, INT32_MAX, "0 (off) or more", -1, INT32_MAX,                                            \
      k, 0, INT32_MAX, "top-k: sample from the k most probable tokens; 0 disables it")                                 \
    X(top_p, NUMBER, 1.0, 0.9, 1.0, DBL_TRUE_MIN, 1, "above 0 and at most 1 (off)", 0, 1,                              \
      p, 0, 1, "top-p: sample from the smallest set of tokens whose probabilities add up to p; 1 disables it")         \
    X(min_p, NUMBER, 0, 0, 0, 0, 1, "from 0 (off) to 1", 0, 1,                                                         \
      min_p, 0, 1, "minimum probability of a token, relative to the most probable one; 0 disables it")                 \
    X(repetition_penalty, NUMBER, 1.0, 1.0, 1.0, DBL_TRUE_MIN, DBL_MAX, "above 0", 1e-3, 1e3,                          \
      repetition_penalty, 1e-3, 1e3, "penalty on tokens that occurred before; 1 disables it")

/* Parameters of requests only, which have no flag: X(name, KIND, in_request, valid_min, valid_max, valid, json_min,
 * json_max). */
#define PENALTY_PARAMETERS(X)                                                                                          \
    X(presence_penalty, NUMBER, 0, -DBL_MAX, DBL_MAX, "finite", -2, 2)                                                 \
    X(frequency_penalty, NUMBER, 0, -DBL_MAX, DBL_MAX, "finite", -2, 2)
/* clang-format on */

#endif
