/* Python's way to the kernels: addresses and sizes as integers, nothing checked. Built against the
   limited API, so that one file serves every CPython from 3.11 on. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_KERNELS 1
#include "attention.h"
#include "products.h"
#include "rows.h"
#include "select.h"
#endif

static PyObject *isa(PyObject *self, PyObject *unused)
{
#ifdef HAS_KERNELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))
        return PyUnicode_FromString("avx512_bf16");
#endif
    return PyUnicode_FromString("");
}

/* Raised with every change of what a function takes or is good for; backend/native/__init__.py has
   the same. */
static PyObject *interface(PyObject *self, PyObject *unused)
{
    return PyLong_FromLong(5);
}

#ifdef HAS_KERNELS

/* Read `expected` integers. Returns 0 with an exception set if there are others. */
static int read_ints(PyObject *const *args, Py_ssize_t count, Py_ssize_t expected, int64_t *out)
{
    if (count < expected) {
        PyErr_Format(PyExc_TypeError, "%zd arguments instead of %zd", count, expected);
        return 0;
    }
    for (Py_ssize_t i = 0; i < expected; i++) {
        out[i] = PyLong_AsLongLong(args[i]);
        if (out[i] == -1 && PyErr_Occurred())
            return 0;
    }
    return 1;
}

static int read_float(PyObject *const *args, Py_ssize_t count, Py_ssize_t place, float *out)
{
    if (count != place + 1) {
        PyErr_Format(PyExc_TypeError, "%zd arguments instead of %zd", count, place + 1);
        return 0;
    }
    *out = (float)PyFloat_AsDouble(args[place]);
    return !PyErr_Occurred();
}

#define AT(type, address) ((type *)(uintptr_t)(address))

static PyObject *py_add_rms_norm(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[7];
    float eps;
    if (!read_ints(args, count, 7, v) || !read_float(args, count, 7, &eps))
        return NULL;
    add_rms_norm(AT(const uint16_t, v[0]), AT(const uint16_t, v[1]), AT(const uint16_t, v[2]),
                 AT(uint16_t, v[3]), AT(uint16_t, v[4]), v[5], v[6], eps);
    Py_RETURN_NONE;
}

static PyObject *py_rotate_store(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[11];
    if (!read_ints(args, count, 11, v))
        return NULL;
    const Rotation r = {
        .qkv = AT(uint16_t, v[0]), .stride = v[1], .cos = AT(const uint16_t, v[2]),
        .sin = AT(const uint16_t, v[3]), .cache = AT(uint16_t, v[4]),
        .slots = AT(const int32_t, v[5]), .tokens = v[6], .num_heads = v[7],
        .num_kv_heads = v[8], .dim = v[9], .block_size = v[10],
    };
    rotate_store(&r);
    Py_RETURN_NONE;
}

static PyObject *py_silu_mul(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[4];
    if (!read_ints(args, count, 4, v))
        return NULL;
    silu_mul(AT(const uint16_t, v[0]), AT(uint16_t, v[1]), v[2], v[3]);
    Py_RETURN_NONE;
}

static PyObject *py_attention(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[16];
    float scale;
    if (!read_ints(args, count, 16, v) || !read_float(args, count, 16, &scale))
        return NULL;
    const Attention a = {
        .q = AT(const uint16_t, v[0]), .q_stride = v[1], .cache = AT(const uint16_t, v[2]),
        .block_tables = AT(const int32_t, v[3]), .table_stride = v[4],
        .items = AT(const AttentionItem, v[5]), .num_items = v[6],
        .merges = AT(const AttentionMerge, v[7]), .num_merges = v[8], .num_heads = v[9],
        .num_kv_heads = v[10], .dim = v[11], .block_size = v[12], .partials = AT(float, v[13]),
        .out = AT(uint16_t, v[14]), .parallel = (int)v[15], .scale = scale,
    };
    Py_BEGIN_ALLOW_THREADS
    attention(&a);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_packed_size(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[3];
    if (!read_ints(args, count, 3, v))
        return NULL;
    return PyLong_FromLongLong(packed_size((int)v[0], v[1], v[2]));
}

static PyObject *py_pack(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[7];
    if (!read_ints(args, count, 7, v))
        return NULL;
    const Weight w = {
        .bits = (int)v[0], .features = v[1], .width = v[2], .values = AT(const void, v[3]),
        .scales = AT(const float, v[4]), .minimums = AT(const float, v[5]),
    };
    pack(&w, AT(uint8_t, v[6]));
    Py_RETURN_NONE;
}

/* bits, rows, features, width, x, packed */
static Product product_of(const int64_t *v)
{
    return (Product){
        .bits = (int)v[0], .rows = v[1], .features = v[2], .width = v[3],
        .x = AT(const uint16_t, v[4]), .packed = AT(const uint8_t, v[5]),
    };
}

static PyObject *py_product(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[8];
    int result;
    if (!read_ints(args, count, 8, v))
        return NULL;
    Product p = product_of(v);
    p.out = AT(void, v[6]);
    p.form = (ProductForm)v[7];
    Py_BEGIN_ALLOW_THREADS
    result = product(&p);
    Py_END_ALLOW_THREADS
    if (result != 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *py_best(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[8];
    int result;
    if (!read_ints(args, count, 8, v))
        return NULL;
    const Product p = product_of(v);
    Py_BEGIN_ALLOW_THREADS
    result = best(&p, AT(float, v[6]), AT(int64_t, v[7]));
    Py_END_ALLOW_THREADS
    if (result != 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *py_look_up(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[7];
    if (!read_ints(args, count, 7, v))
        return NULL;
    if (look_up((int)v[0], AT(const uint8_t, v[1]), v[2], v[3], AT(const int32_t, v[4]), v[5],
                AT(uint16_t, v[6])) != 0) {
        PyErr_SetString(PyExc_IndexError, "there is no such row");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *py_select_best(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t v[6];
    if (!read_ints(args, count, 6, v))
        return NULL;
    if (!select_best(AT(const float, v[0]), v[1], v[2], v[3], AT(float, v[4]), AT(int64_t, v[5])))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}

#endif

static PyMethodDef methods[] = {
    {"interface", interface, METH_NOARGS, "Which version of the functions' arguments this is."},
    {"isa", isa, METH_NOARGS, "Instructions the kernels use; empty where they cannot run."},
#ifdef HAS_KERNELS
    FAST(add_rms_norm),
    FAST(rotate_store),
    FAST(silu_mul),
    FAST(attention),
    FAST(packed_size),
    FAST(pack),
    FAST(product),
    FAST(best),
    FAST(look_up),
    FAST(select_best),
#endif
    {NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, methods};

PyMODINIT_FUNC PyInit__kernels(void)
{
    return PyModuleDef_Init(&definition);
}
