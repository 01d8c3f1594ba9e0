/* Messages of a chat request, converted to the form that chat templates expect. */
#ifndef SERVE_CHAT_MESSAGES_H
#define SERVE_CHAT_MESSAGES_H

#include "fields.h"

/* Returns a copy of the field `messages`; NULL after fields_error(). The messages are as transformers passes them to
 * a template: keys with null values are removed, the content is one string, arguments of tool calls are objects. */
json_t *messages_read(fields *f);

#endif
