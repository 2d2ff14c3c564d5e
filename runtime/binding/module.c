/* The module flambeau.runtime._binding: memory and thread settings, exceptions, types and the C API capsule. */
#include "small_op.h"

#include <string.h>

fb_binding_api fb_api = {
    .version = FB_BINDING_VERSION,
    .buffer_wrap = fb_buffer_object_wrap,
    .buffer_get = fb_buffer_object_get,
    .buffer_import = fb_buffer_object_import,
    .buffer_exporter = fb_buffer_object_exporter,
    .plan_get = fb_plan_object_get,
    .raise = fb_raise,
    .op_list_run = fb_op_list_run,
    .op_list_asks = fb_op_list_asks,
};

static PyObject *raise_kernel_failed(int64_t failure) {
  PyObject *error = PyObject_CallFunction(fb_api.kernel_failed, "s", fb_last_error());
  PyObject *word = PyLong_FromLongLong(failure);
  if (error != NULL && word != NULL && PyObject_SetAttrString(error, "status", word) == 0)
    PyErr_SetObject(fb_api.kernel_failed, error);
  Py_XDECREF(error);
  Py_XDECREF(word);
  return NULL;
}

/* Whether a handler of a signal has raised, which only the main thread's do: the exception is then this thread's, and
 * what the interrupted call reports. */
static bool is_interrupted(void) {
  PyGILState_STATE state = PyGILState_Ensure();
  bool raised = PyErr_CheckSignals() < 0;
  PyGILState_Release(state);
  return raised;
}

PyObject *fb_raise(fb_status status, int64_t failure) {
  if (status == FB_INTERRUPTED && PyErr_Occurred())
    return NULL;
  if (status == FB_KERNEL_FAILED)
    return raise_kernel_failed(failure);
  PyObject *type = PyExc_ValueError;
  if (status == FB_OUT_OF_MEMORY)
    type = fb_api.out_of_memory;
  else if (status == FB_OTHER_SIZES)
    type = fb_api.other_sizes;
  else if (status == FB_NO_DEVICE || status == FB_DEVICE_FAILED)
    type = PyExc_RuntimeError;
  PyErr_SetString(type, fb_last_error());
  return NULL;
}

/* ---- functions ----------------------------------------------------------------------------------------- */

static PyObject *memory_stats(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_memory_stats s;
  fb_memory_get_stats(&s);
  return Py_BuildValue("{sn sn sn sn sn sn sn}", "live_bytes", (Py_ssize_t)s.live_bytes, "peak_bytes",
                       (Py_ssize_t)s.peak_bytes, "reserved_bytes", (Py_ssize_t)s.reserved_bytes, "limit_bytes",
                       (Py_ssize_t)s.limit_bytes, "live_buffers", (Py_ssize_t)s.live_buffers, "allocations",
                       (Py_ssize_t)s.allocations, "cache_hits", (Py_ssize_t)s.cache_hits);
}

static PyObject *reset_peak(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_memory_reset_peak();
  Py_RETURN_NONE;
}

static PyObject *set_memory_limit(PyObject *module, PyObject *argument) {
  (void)module;
  Py_ssize_t bytes = argument == Py_None ? 0 : PyNumber_AsSsize_t(argument, PyExc_OverflowError);
  if (bytes == -1 && PyErr_Occurred())
    return NULL;
  if (bytes < 0)
    return PyErr_Format(PyExc_ValueError, "[set_memory_limit] the limit is %zd bytes. Pass 0 or None for no limit.",
                        bytes);
  fb_memory_set_limit((size_t)bytes);
  Py_RETURN_NONE;
}

static PyObject *refuse_memory(PyObject *module, PyObject *argument) {
  (void)module;
  Py_ssize_t nth = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
  if (nth < 0)
    return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "[refuse_memory] %zd is negative.", nth);
  fb_memory_refuse((size_t)nth);
  Py_RETURN_NONE;
}

static PyObject *trim(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromSize_t(fb_memory_trim());
}

static PyObject *set_memory_guard(PyObject *module, PyObject *argument) {
  (void)module;
  static const char *const names[] = {"off", "end", "start"};
  const char *name = PyUnicode_Check(argument) ? PyUnicode_AsUTF8(argument) : "";
  for (int mode = FB_GUARD_OFF; name != NULL && mode <= FB_GUARD_START; mode++)
    if (strcmp(name, names[mode]) == 0) {
      fb_memory_set_guard((fb_guard_mode)mode);
      Py_RETURN_NONE;
    }
  return name == NULL ? NULL
                      : PyErr_Format(PyExc_ValueError,
                                     "[set_memory_guard] there is no mode %R. Pass 'off', 'end' or 'start'.", argument);
}

static PyObject *set_num_threads(PyObject *module, PyObject *argument) {
  (void)module;
  long n = PyLong_AsLong(argument);
  if (n == -1 && PyErr_Occurred())
    return NULL;
  if (n < 1 || n > 256)
    return PyErr_Format(PyExc_ValueError, "[set_num_threads] %ld threads were asked for. Pass 1 to 256.", n);
  fb_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = fb_set_num_threads((int)n);
  Py_END_ALLOW_THREADS;
  if (status != FB_OK)
    return fb_raise(status, 0);
  Py_RETURN_NONE;
}

static PyObject *get_num_threads(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromLong(fb_get_num_threads());
}

/* In C, so that no interrupt can leave it switched off. */
static PyObject *uncollected(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  if (n < 1)
    return PyErr_Format(PyExc_TypeError, "[uncollected] what is to be called is missing.");
  int collects = PyGC_Disable();
  PyObject *answer = PyObject_Vectorcall(args[0], args + 1, (size_t)n - 1, NULL);
  if (collects)
    PyGC_Enable();
  return answer;
}

static PyMethodDef functions[] = {
    {"memory_stats", memory_stats, METH_NOARGS,
     PyDoc_STR("memory_stats()\n--\n\nA dict of the pool's live, peak, reserved and limit bytes and its counters.")},
    {"reset_peak", reset_peak, METH_NOARGS,
     PyDoc_STR("reset_peak()\n--\n\nStart measuring the peak anew from what is live.")},
    {"set_memory_limit", set_memory_limit, METH_O,
     PyDoc_STR("set_memory_limit(nbytes)\n--\n\nRefuse to hold more than nbytes; 0 or None for no limit.")},
    {"set_memory_guard", set_memory_guard, METH_O,
     PyDoc_STR("set_memory_guard(mode)\n--\n\nFor tests. 'end' or 'start': every block from now on ends, or starts, at "
               "a page that nobody may touch. 'off': no more.")},
    {"_refuse_memory", refuse_memory, METH_O,
     PyDoc_STR("_refuse_memory(nth)\n--\n\nFor tests: the nth allocation from now on fails; 0: none.")},
    {"trim", trim, METH_NOARGS, PyDoc_STR("trim()\n--\n\nGive cached blocks back to the system; returns their bytes.")},
    {"set_num_threads", set_num_threads, METH_O,
     PyDoc_STR("set_num_threads(n)\n--\n\nUse n threads, 1 to 256, in parallel loops. Results do not depend on n.")},
    {"get_num_threads", get_num_threads, METH_NOARGS,
     PyDoc_STR("get_num_threads()\n--\n\nThreads used by parallel loops; by default the CPUs this process may use.")},
    {"uncollected", (PyCFunction)(void (*)(void))uncollected, METH_FASTCALL,
     PyDoc_STR(
         "uncollected(function, *args)\n--\n\nfunction(*args), during which cyclic garbage waits: for what makes many "
         "containers that are kept.")},
    {"join_op_lists", fb_join_op_lists, METH_VARARGS,
     PyDoc_STR(
         "join_op_lists(links, entered, outputs)\n--\n\nOpLists without symbols one after the other as one: links "
         "are (OpList, operands, results). Values have any numbers:\n`entered` are those of the inputs, "
         "`outputs` those of what it gives.")},
    {"pass_back", fb_pass_back, METH_VARARGS,
     PyDoc_STR("pass_back(history, walk, root, leaves, graphs, known, passing)\n--\n\nGo back through the calls of a "
               "trace from slot `root` and add the steps that this takes to those of the walk:\n(the values of the "
               "cotangents of `leaves`, or None; slots that were passed; nanoseconds; calls without steps of their "
               "own). None where\nthe calls of `history` do not suffice. `known(graph)`, or `graphs[id(graph)]`, and "
               "`passing(known, wanted)` say what equal calls share.")},
    {"cuda_device", fb_cuda_probe, METH_VARARGS,
     PyDoc_STR("cuda_device(driver=None, device=0)\n--\n\nA dict of an NVIDIA GPU's name, compute capability and bytes "
               "of memory. `driver` is the path of the\ndriver's library, None the system's. Raises RuntimeError.")},
    {"cpu_identity", fb_cpu_identity, METH_NOARGS,
     PyDoc_STR(
         "cpu_identity()\n--\n\nBytes that are the same on equal CPUs, under systems that save the same registers; "
         "None where the CPU\ndoes not say.")},
    {"map_object", fb_map_object, METH_VARARGS,
     PyDoc_STR(
         "map_object(code, symbol)\n--\n\nThe address of a function of an object file that needs nothing but itself, "
         "mapped for the life of the process. None for\nbytes that are anything else.")},
    {"multiply_add", fb_multiply_add, METH_VARARGS,
     PyDoc_STR("multiply_add(x, y, z, out, is_double)\n--\n\nWrite x * y + z, rounded once, of floats or doubles; an "
               "operand has one element or as many as `out`.")},
    {"matrix_product", fb_matrix_product, METH_VARARGS,
     PyDoc_STR("matrix_product(a, b, out, batch, m, k, n, is_double)\n--\n\nWrite the products of row-major matrices "
               "of floats or doubles, summed in the order that kernels follow.")},
    {"body_ops", fb_body_ops, METH_NOARGS,
     PyDoc_STR(
         "body_ops()\n--\n\nThe names of the ops that `run_body` knows: name, predicate, type of the operand where it "
         "is another, type.")},
    {"run_body", fb_run_body, METH_VARARGS,
     PyDoc_STR(
         "run_body(steps, constants, n_values, operands, out, n)\n--\n\nRun a body on n elements. A step is five "
         "int32: an op's place in `body_ops`, the number of its result, three of its operands. Values\nare numbered: "
         "the operands' elements, what steps make, then each 8 bytes of `constants`. The last step gives `out`.\n"
         "Types are those of the ops; nobody checks that values have them. Raises ValueError for what does not fit.")},
    {"lapack_kernels", fb_lapack_kernels, METH_VARARGS,
     PyDoc_STR(
         "lapack_kernels(routines, get_threads, set_threads)\n--\n\nThe kernels of linear algebra by name, their "
         "addresses for float32, float64, complex64 and complex128. `routines` has\nLAPACK's as capsules by name; "
         "the others are addresses of the functions that get and set how many threads\nit uses, or None. Raises "
         "RuntimeError.")},
    {"fourier_kernels", fb_fourier_kernels, METH_O,
     PyDoc_STR(
         "fourier_kernels(loops)\n--\n\nThe kernels of Fourier transforms by name, their addresses for float32 and "
         "float64, and two of 0. `loops` has the\naddresses of a loop and its data, for each of NumPy's ufuncs and "
         "both types. "
         "Raises TypeError.")},
    {0},
};

/* ---- the module ---------------------------------------------------------------------------------------- */

static PyObject *add_error(PyObject *module, const char *qualified, const char *name, const char *doc) {
  PyObject *error = PyErr_NewExceptionWithDoc(qualified, doc, PyExc_RuntimeError, NULL);
  if (error != NULL && PyModule_AddObjectRef(module, name, error) < 0)
    Py_CLEAR(error);
  return error;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec) {
  PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
  if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0)
    Py_CLEAR(type);
  return (PyTypeObject *)type;
}

static int fill_module(PyObject *module) {
  fb_api.out_of_memory =
      add_error(module, "flambeau.runtime.OutOfMemory", "OutOfMemory",
                "The memory limit, or the system's memory, is used up. The message names the sizes.");
  fb_api.kernel_failed = add_error(module, "flambeau.runtime.KernelFailed", "KernelFailed",
                                   "A kernel reported an error; `status` is its word: code << 48 | position.");
  fb_api.other_sizes = add_error(module, "flambeau.runtime.OtherSizes", "OtherSizes",
                                 "The plan is not for these sizes. Nothing has happened.");
  fb_api.buffer_type = add_type(module, &fb_buffer_type_spec);
  fb_api.plan_type = add_type(module, &fb_plan_type_spec);
  fb_api.device_type = add_type(module, &fb_device_type_spec);
  fb_api.op_list_type = add_type(module, &fb_op_list_type_spec);
  if (fb_api.out_of_memory == NULL || fb_api.kernel_failed == NULL || fb_api.other_sizes == NULL ||
      fb_api.buffer_type == NULL || fb_api.plan_type == NULL || fb_api.device_type == NULL ||
      fb_api.op_list_type == NULL || fb_small_init(module) < 0)
    return -1;
  fb_set_interrupt_check(is_interrupted);
  PyObject *capsule = PyCapsule_New(&fb_api, FB_BINDING_CAPSULE, NULL);
  int result = capsule == NULL ? -1 : PyModule_AddObjectRef(module, "_C_API", capsule);
  Py_XDECREF(capsule);
  return result;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "flambeau.runtime._binding",
    .m_doc = "Binding of the C runtime: buffers, plans, memory and threads.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__binding(void) {
  PyObject *module = PyModule_Create(&definition);
  if (module != NULL && fill_module(module) < 0)
    Py_CLEAR(module);
  return module;
}
