/* What users call: a function, its parameters, and its static arguments. */
#ifndef FB_FUNCTION_H
#define FB_FUNCTION_H

#include "sizes.h"

typedef enum {
  FB_P_TENSOR,
  FB_P_OPERAND,
  FB_P_TENSORS,
  FB_P_OPTIONAL,
  FB_P_NUMBER,
  FB_P_STREAM,
  FB_P_STATIC,
  FB_P_STARTS,
  FB_P_DEFAULT
} fb_param_kind;
typedef enum { FB_PURE, FB_VIEW, FB_INPLACE } fb_function_kind;

typedef struct {
  PyObject *name, *fallback; /* fallback NULL: required */
  fb_param_kind kind;
  bool keyword_only;
  PyObject *spellings; /* tuple of other names that callers may use, or NULL */
  bool is_size;        /* static: the ints in it are sizes, which may differ from run to run */
} fb_param;

#define FB_STATIC_CACHE 8
struct fb_function {
  PyObject_VAR_HEAD vectorcallfunc vectorcall;
  uint32_t id, n_params, n_positional, n_static;
  fb_function_kind kind;
  bool binary; /* exactly two positional operands */
  bool variadic, fallible, detach, aside, has_numbers, has_lists, has_sizes, has_defaults;
  PyObject *name, *rule, *params, *extra;
  PyObject *otherwise; /* called instead when binding fails with a TypeError; `extra` holds it */
  PyObject **cache;    /* rows of pinned statics, found by identity */
  uint32_t cache_id[FB_STATIC_CACHE];
  const fb_view *recent_view;
  PyObject *weakrefs;
  fb_param param[];
};

/* The id of a call's static arguments; `rest`: several arguments for a variadic one. -1: error. */
int64_t fb_bind_statics(fb_function *f, PyObject *const *values, PyObject *const *rest, Py_ssize_t n_rest);
PyObject **fb_new_statics(void);
void fb_free_statics(fb_function *f);
PyObject *fb_function_statics(fb_function *f, uint32_t id); /* new dict */

#endif
