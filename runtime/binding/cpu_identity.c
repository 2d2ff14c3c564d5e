/* Which CPU this is, as it says itself: what compilers tell its name and abilities from. */
#include "binding.h"

#if defined(__x86_64__)
#include <cpuid.h>

PyObject *fb_cpu_identity(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) {
  static const unsigned leaves[][2] = {
      {0, 0},    {1, 0},          {7, 0},          {7, 1},          {0xd, 1},        {0x14, 0},      {0x19, 0},
      {0x24, 0}, {0x80000001, 0}, {0x80000002, 0}, {0x80000003, 0}, {0x80000004, 0}, {0x80000008, 0}};
  enum { LEAVES = sizeof leaves / sizeof *leaves };
  unsigned words[LEAVES + 1][4] = {{0}};
  for (int i = 0; i < LEAVES; i++)
    (void)__get_cpuid_count(leaves[i][0], leaves[i][1], &words[i][0], &words[i][1], &words[i][2], &words[i][3]);
  words[1][1] = 0;              /* which core this is */
  if (words[1][2] & (1u << 27)) /* what the system saves of registers */
    __asm__ volatile("xgetbv" : "=a"(words[LEAVES][0]), "=d"(words[LEAVES][1]) : "c"(0));
  return PyBytes_FromStringAndSize((const char *)words, sizeof words);
}
#else
PyObject *fb_cpu_identity(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) { Py_RETURN_NONE; }
#endif
