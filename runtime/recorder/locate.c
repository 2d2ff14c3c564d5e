/* Where the user's code stands. */
#include "trace.h"

static bool is_ours(PyFrameObject *frame) {
  static PyObject *key;
  if (!key)
    key = PyUnicode_InternFromString("__name__");
  PyObject *globals = PyFrame_GetGlobals(frame);
  PyObject *name = key ? PyDict_GetItemWithError(globals, key) : NULL;
  bool ours = false;
  if (name && PyUnicode_Check(name)) {
    const char *text = PyUnicode_AsUTF8(name);
    ours = text && !strncmp(text, "flambeau", 8) && (!text[8] || text[8] == '.');
  }
  Py_DECREF(globals);
  return ours;
}

static PyFrameObject *find_frame(void) {
  PyFrameObject *frame = PyEval_GetFrame();
  Py_XINCREF(frame);
  while (frame && is_ours(frame)) {
    PyFrameObject *back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  return frame;
}

/* The innermost frame of the user's; a new reference, or NULL. Lets no other thread in. */
PyFrameObject *fb_user_frame(void) {
  int quiet = fb_quiet_begin();
  PyFrameObject *frame = find_frame();
  fb_quiet_end(quiet);
  return frame;
}

static PyCodeObject *find_code(int *instruction) {
  PyFrameObject *frame = find_frame();
  PyCodeObject *code = frame ? PyFrame_GetCode(frame) : NULL;
  *instruction = frame ? PyFrame_GetLasti(frame) : 0;
  Py_XDECREF((PyObject *)frame);
  return code;
}

/* Lets no other thread in. */
PyCodeObject *fb_user_code(int *instruction) {
  int quiet = fb_quiet_begin();
  PyCodeObject *code = find_code(instruction);
  fb_quiet_end(quiet);
  return code;
}

static int find_line(PyObject **file) {
  PyFrameObject *frame = find_frame();
  *file = NULL;
  if (!frame)
    return 0;
  PyCodeObject *code = PyFrame_GetCode(frame);
  int line = PyFrame_GetLineNumber(frame);
  *file = Py_NewRef(code->co_filename);
  Py_DECREF(code);
  Py_DECREF(frame);
  return line;
}

/* Lets no other thread in. */
int fb_user_line(PyObject **file) {
  int quiet = fb_quiet_begin(), line = find_line(file);
  fb_quiet_end(quiet);
  return line;
}
