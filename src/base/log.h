/* Log messages, passed to the callback of lckv_set_log(). The library itself prints nothing.
 *
 * Levels: warning (something the user should change), info (once per command), debug (once per file or step). Nothing
 * is logged per token or per op. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/status.h"

void log_message(lckv_log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
