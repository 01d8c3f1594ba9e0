/* Messages of a chat request, in the form that chat templates take. */
#ifndef SERVE_MESSAGES_H
#define SERVE_MESSAGES_H

#include "fields.h"

/* The field `messages` as a new list; NULL after fields_wrong(). Each message is what transformers would hand to the
 * template: keys that are null are left out, contents are one text, arguments of tool calls are objects. */
json_t *messages_read(fields *f);

#endif
