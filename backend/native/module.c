/* Python's way to the kernels. A call is one struct of calls.h, given as an object that shows its
   bytes; what its addresses point to is not checked. Built against the limited API, so that one file
   serves every CPython from 3.11 on. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "calls.h"
#include "dispatch.h"
#include "program.h"
#include "threads.h"

static PyObject *interface(PyObject *self, PyObject *unused)
{
    return PyLong_FromUnsignedLong(INTERFACE);
}

/* The kernels that serve; NULL where none runs on this processor. */
static const Kernels *active;

static PyObject *py_set_num_threads(PyObject *self, PyObject *count)
{
    const long wanted = PyLong_AsLong(count);
    if (wanted == -1 && PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    set_num_threads(wanted < INT_MAX ? (int)wanted : INT_MAX);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_num_threads(PyObject *self, PyObject *unused)
{
    return PyLong_FromLong(num_threads());
}

static PyObject *levels(PyObject *self, PyObject *unused)
{
    PyObject *names = PyList_New(0);
    const Kernels *found;
    for (int place = 0; names != NULL && (found = kernels_at(place)) != NULL; place++) {
        PyObject *name = PyUnicode_FromString(found->level);
        const int failed = name == NULL || PyList_Append(names, name) != 0;
        Py_XDECREF(name);
        if (failed)
            Py_CLEAR(names);
    }
    return names;
}

static PyObject *use(PyObject *self, PyObject *name)
{
    const Kernels *found;
    for (int place = 0; (found = kernels_at(place)) != NULL; place++)
        if (PyUnicode_CompareWithASCIIString(name, found->level) == 0) {
            active = found;
            Py_RETURN_NONE;
        }
    PyErr_Format(PyExc_ValueError, "this processor has no kernels of level %R", name);
    return NULL;
}

static PyObject *level(PyObject *self, PyObject *unused)
{
    return PyUnicode_FromString(active == NULL ? "" : active->level);
}

/* Where this thread's calls are noted before they run, a list; NULL where they are not. */
static _Thread_local PyObject *recorded;

/* Note a call: its name, its bytes. Returns 0 with an exception set if there is no memory. */
static int record_call(const char *name, const void *call, Py_ssize_t size)
{
    PyObject *entry = Py_BuildValue("(sy#)", name, (const char *)call, size);
    const int failed = entry == NULL || PyList_Append(recorded, entry) != 0;
    Py_XDECREF(entry);
    return !failed;
}

static PyObject *start_recording(PyObject *self, PyObject *unused)
{
    if (recorded != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "calls of this thread are being recorded");
        return NULL;
    }
    recorded = PyList_New(0);
    Py_XINCREF(recorded);
    return recorded;
}

static PyObject *stop_recording(PyObject *self, PyObject *unused)
{
    Py_CLEAR(recorded);
    Py_RETURN_NONE;
}

/* Copy a call out of its object. Returns 0 with an exception set if it is not one. */
static int read_call(PyObject *object, const char *name, void *call, Py_ssize_t size)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0)
        return 0;
    const Py_ssize_t given = view.len;
    if (given == size)
        memcpy(call, view.buf, size);
    PyBuffer_Release(&view);
    if (given != size) {
        PyErr_Format(PyExc_TypeError, "a call of %zd bytes instead of %zd", given, size);
        return 0;
    }
    if (active == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "no level of kernels is in use");
        return 0;
    }
    return recorded == NULL || record_call(name, call, size);
}

/* A kernel that always succeeds, and is too short to let other Python threads run meanwhile. */
#define PLAIN(name, Call) \
    static PyObject *py_##name(PyObject *self, PyObject *object) \
    { \
        Call call; \
        if (!read_call(object, #name, &call, sizeof call)) \
            return NULL; \
        active->name(&call); \
        Py_RETURN_NONE; \
    }

/* A kernel that always succeeds; other Python threads run meanwhile. */
#define LONG(name, Call) \
    static PyObject *py_##name(PyObject *self, PyObject *object) \
    { \
        Call call; \
        if (!read_call(object, #name, &call, sizeof call)) \
            return NULL; \
        Py_BEGIN_ALLOW_THREADS \
        active->name(&call); \
        Py_END_ALLOW_THREADS \
        Py_RETURN_NONE; \
    }

/* A kernel that may run out of memory, or meet a bad id; other Python threads run meanwhile. */
#define FALLIBLE(name, Call, set_error) \
    static PyObject *py_##name(PyObject *self, PyObject *object) \
    { \
        Call call; \
        int result; \
        if (!read_call(object, #name, &call, sizeof call)) \
            return NULL; \
        Py_BEGIN_ALLOW_THREADS \
        result = active->name(&call); \
        Py_END_ALLOW_THREADS \
        if (result != 0) { \
            set_error; \
            return NULL; \
        } \
        Py_RETURN_NONE; \
    }

PLAIN(pack, Pack)
PLAIN(add_rms_norm, AddRmsNorm)
PLAIN(rotate_store, RotateStore)
PLAIN(latent_store, LatentStore)
PLAIN(head_norm, HeadNorm)
PLAIN(add_layer_norm, AddLayerNorm)
PLAIN(gate_mul, GateMul)
PLAIN(scaled_sum, ScaledSum)
PLAIN(route, Route)
PLAIN(gather_rows, GatherRows)
PLAIN(take_columns, TakeColumns)
PLAIN(sum_experts, SumExperts)
LONG(attention, Attention)
LONG(latent_attention, LatentAttention)
LONG(delta_rule, DeltaRule)
PLAIN(gated_norm, GatedNorm)
PLAIN(gated_squares, GatedSquares)
LONG(ssm_scan, SsmScan)
PLAIN(causal_conv, CausalConv)
LONG(exp_sums, ExpSums)
LONG(count_greater, CountGreater)
LONG(apply_masks, ApplyMasks)
FALLIBLE(gemm, Gemm, PyErr_NoMemory())
FALLIBLE(grouped_gemm, GroupedGemm, PyErr_NoMemory())
FALLIBLE(head_gemm, HeadGemm, PyErr_NoMemory())
FALLIBLE(argmax, Argmax, PyErr_NoMemory())
FALLIBLE(topk, TopK, PyErr_NoMemory())
FALLIBLE(embed, Embed, PyErr_SetString(PyExc_IndexError, "there is no such row"))

static PyObject *py_packed_size(PyObject *self, PyObject *object)
{
    Pack call;
    if (!read_call(object, "packed_size", &call, sizeof call))
        return NULL;
    return PyLong_FromLongLong(active->packed_size(&call));
}

static PyObject *operations(PyObject *self, PyObject *unused)
{
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < num_operations(); i++) {
        PyObject *name = PyUnicode_FromString(operation_name(i));
        const int failed = name == NULL || PyList_Append(names, name) != 0;
        Py_XDECREF(name);
        if (failed)
            Py_CLEAR(names);
    }
    return names;
}

/* The words are read where they lie: the caller leaves them alone meanwhile. */
static PyObject *replay(PyObject *self, PyObject *object)
{
    Py_buffer view;
    ProgramResult result = PROGRAM_IS_NONE;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0)
        return NULL;
    const int is_ready = active != NULL && view.len % sizeof(int64_t) == 0
                         && (uintptr_t)view.buf % _Alignof(int64_t) == 0;
    if (is_ready) {
        Py_BEGIN_ALLOW_THREADS
        result = run_program(active, view.buf, view.len / (Py_ssize_t)sizeof(int64_t));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    if (result == PROGRAM_NO_MEMORY)
        return PyErr_NoMemory();
    if (result == PROGRAM_IS_NONE) {
        PyErr_SetString(PyExc_ValueError, "this is no program of the kernels");
        return NULL;
    }
    Py_RETURN_NONE;
}

#define CALL(name) {#name, py_##name, METH_O, NULL}

static PyMethodDef methods[] = {
    {"interface", interface, METH_NOARGS, "The number of the declarations in calls.py."},
    {"levels", levels, METH_NOARGS, "The levels whose kernels run on this processor, best first."},
    {"level", level, METH_NOARGS, "The level that serves; empty before one does."},
    {"use", use, METH_O, "Have the kernels of a level serve."},
    {"num_threads", py_num_threads, METH_NOARGS, "How many threads run the kernels."},
    {"set_num_threads", py_set_num_threads, METH_O, "Have so many threads run the kernels."},
    {"start_recording", start_recording, METH_NOARGS,
     "Return a list that gets the name and the bytes of each call of this thread from now on."},
    {"stop_recording", stop_recording, METH_NOARGS, "Note no more calls."},
    {"operations", operations, METH_NOARGS, "The kernels that a program may call, by number."},
    {"replay", replay, METH_O, "Run a program; see program.h."},
    CALL(packed_size),
    CALL(pack),
    CALL(gemm),
    CALL(grouped_gemm),
    CALL(head_gemm),
    CALL(argmax),
    CALL(embed),
    CALL(add_rms_norm),
    CALL(rotate_store),
    CALL(latent_store),
    CALL(head_norm),
    CALL(add_layer_norm),
    CALL(gate_mul),
    CALL(scaled_sum),
    CALL(route),
    CALL(gather_rows),
    CALL(take_columns),
    CALL(sum_experts),
    CALL(attention),
    CALL(latent_attention),
    CALL(delta_rule),
    CALL(gated_norm),
    CALL(gated_squares),
    CALL(ssm_scan),
    CALL(causal_conv),
    CALL(topk),
    CALL(exp_sums),
    CALL(count_greater),
    CALL(apply_masks),
    {NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, methods};

PyMODINIT_FUNC PyInit__kernels(void)
{
    return PyModuleDef_Init(&definition);
}
