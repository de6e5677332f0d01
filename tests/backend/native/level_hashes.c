/* Prints a hash of what the kernels of a level make of the same numbers on any processor, a line a case:
   two levels, or two processors, have the same bits if they print the same. LEVEL_TABLE: the level's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "gemm.h"
#include "levels/levels.h"
#include "packing.h"

#ifndef LEVEL_TABLE
#define LEVEL_TABLE kernels_portable
#endif

static const Kernels *const kernels = &LEVEL_TABLE;
static uint64_t state = 1;

/* Knuth's MMIX generator. */
static uint32_t draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static void *allocate(size_t size)
{
    void *memory = calloc(size, 1);
    if (memory == NULL)
        abort();
    return memory;
}

static void print_hash(const char *name, int number, int rows, const void *data, size_t size)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 1099511628211u;
    printf("%s %d %d %016llx\n", name, number, rows, (unsigned long long)hash);
}

/* bf16 from 2^-6 to 2^2, of either sign. */
static uint16_t *random_bf16(size_t count)
{
    uint16_t *numbers = allocate(count * sizeof *numbers);
    for (size_t i = 0; i < count; i++)
        numbers[i] = (uint16_t)((draw() & 0x83FF) + 0x3C80);
    return numbers;
}

/* Where the float16 factors of a file's block lie; 0, where there is no second one. */
static void factors_of(int format, int *first, int *second)
{
    *first = format == Q2_K ? 80 : format == Q3_K ? 108 : format == Q6_K ? 208 : 0;
    *second = format == Q2_K ? 82
              : format == Q4_1 || format == Q5_1 || format == Q4_K || format == Q5_K ? 2 : 0;
}

/* Random values, and factors that are small numbers. */
static uint8_t *random_blocks(int format, size_t count)
{
    const size_t size = block_bytes(format);
    uint8_t *blocks = allocate(count * size);
    int first, second;
    factors_of(format, &first, &second);
    for (size_t i = 0; i < count * size; i++)
        blocks[i] = (uint8_t)draw();
    for (size_t i = 0; i < count; i++) {
        uint8_t *block = blocks + i * size;
        if (format == MXFP4) {
            block[0] = 120 + draw() % 8;
            continue;
        }
        block[first + 1] = 0x20 + draw() % 4;
        if (second != 0)
            block[second + 1] = 0xA0 + draw() % 4;
    }
    return blocks;
}

static uint8_t *pack_weight(int format, int64_t N, int64_t K)
{
    const int64_t count = N * K / unit_columns(format);
    Pack call = {.format = format, .N = N, .K = K};
    call.blocks = format == BF16 ? (void *)random_bf16(N * K) : random_blocks(format, count);
    call.out = allocate(kernels->packed_size(&call));
    kernels->pack(&call);
    print_hash("pack", format, 0, call.out, kernels->packed_size(&call));
    free((void *)call.blocks);
    return call.out;
}

static void try_gemm(int format, int64_t N, int64_t K)
{
    static const int rows[] = {1, 2, 7, 16, 25, 70};
    static const int kinds[] = {ACTIVATIONS_INT8, ACTIVATIONS_INT16, ACTIVATIONS_MIXED};
    static const char *const names[] = {"gemm int8", "gemm int16", "gemm mixed"};
    uint8_t *packed = pack_weight(format, N, K);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int64_t M = rows[i];
        uint16_t *x = random_bf16(M * K);
        /* Some groups are fine. */
        for (int64_t k = 0; k < M * K; k++)
            x[k] += k / GROUP % 5 == 0 ? 0x100 : 0;
        float *out = allocate(M * N * sizeof *out);
        Gemm gemm = {
            .format = format, .M = M, .N = N, .K = K, .x = x, .packed = packed, .out = out,
            .out_stride = N, .epilogue = EPILOGUE_FLOAT,
        };
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
            gemm.activations = kinds[kind];
            if (kernels->gemm(&gemm) != 0)
                abort();
            print_hash(names[kind], format, (int)M, out, M * N * sizeof *out);
        }
        free(out);
        free(x);
    }
    free(packed);
}

/* A token behind `keys` keys, its own among them, by one sequence of one page. */
static void try_attention(int keys)
{
    enum { HEADS = 4, KV_HEADS = 2, DIM = 32, BLOCK = 64 };
    const int64_t stride = (HEADS + 2 * KV_HEADS) * DIM;
    int32_t slots[BLOCK], table[1] = {0};
    uint16_t *qkv = random_bf16(keys * stride), *cos = random_bf16(keys * DIM);
    uint16_t *sin = random_bf16(keys * DIM), *cache = allocate(2 * KV_HEADS * BLOCK * DIM * 2);
    uint16_t out[HEADS * DIM];
    for (int i = 0; i < keys; i++)
        slots[i] = i;
    kernels->rotate_store(&(RotateStore){
        .qkv = qkv, .stride = stride, .cos = cos, .sin = sin, .cache = cache,
        .slot_mapping = slots, .tokens = keys, .num_heads = HEADS, .num_kv_heads = KV_HEADS,
        .dim = DIM, .block_size = BLOCK,
    });
    print_hash("rotate", DIM, keys, cache, 2 * KV_HEADS * BLOCK * DIM * 2);
    AttentionItem item = {
        .count = 1, .position = keys - 1, .end_key = keys, .partial = -1,
    };
    kernels->attention(&(Attention){
        .q = qkv + (keys - 1) * stride, .q_stride = stride, .cache = cache, .block_tables = table,
        .table_stride = 1, .items = &item, .num_items = 1, .num_heads = HEADS,
        .num_kv_heads = KV_HEADS, .dim = DIM, .block_size = BLOCK, .out = out, .scale = 0.17,
    });
    print_hash("attention", DIM, keys, out, sizeof out);
    free(cache);
    free(sin);
    free(cos);
    free(qkv);
}

int main(void)
{
    static const int formats[] = {
        Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, MXFP4,
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        try_gemm(formats[i], 37, 256);
        try_gemm(formats[i], 50, 1280);
    }
    try_attention(1);
    try_attention(50);
    return 0;
}
