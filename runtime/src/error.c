/* The message of the last failing call, one per thread. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static _Thread_local char message[512];

const char *fb_last_error(void) { return message; }

fb_status fb_fail(fb_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return status;
}
