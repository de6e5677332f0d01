/* How weights lie. A column is 16 features; along K it is a row of units, each of 32 columns of the
   matrix, or, for k-quants, 256: first the values of its groups of 32, then their factors. The bits are
   the file's; only the 6-bit scales of Q3_K, Q4_K and Q5_K take 8.

   A value is an unsigned number u, and a weight is scale * (u - zero) or scale * u + min. Values lie as
   products of bytes take them: 64 bytes are four neighbouring columns of 16 features, a feature's four
   in one word; such a vector is a step, and a group has eight. With 4 bits vector i holds step i in the
   low nibbles and step 4 + i in the high ones; with 2 bits vector i holds the steps from 4 i on, from
   the low bits up. High bits follow: of 1 bit, step s is bit s of every byte; of 2 bits, as 2-bit values.

   Weights of 16 bits (bf16): a word is two neighbouring columns of a feature; 16 words a pair. */
#ifndef UNISONO_FORMATS_H
#define UNISONO_FORMATS_H

#include <stdint.h>

/* As ggml numbers them. */
typedef enum {
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    BF16 = 30,
    MXFP4 = 39,
} Format;

enum {
    GROUP = 32,  /* columns that share an activation's scale */
    STEPS = GROUP / 4,
    FEATURES = 16,
    MAX_UNIT = 256,
};

#define CONSTANT static inline __attribute__((always_inline))

CONSTANT int is_k_quant(int format)
{
    return format >= Q2_K && format <= Q6_K;
}

/* Columns of a unit: a block of the file. */
CONSTANT int unit_columns(int format)
{
    return is_k_quant(format) ? MAX_UNIT : GROUP;
}

/* Columns that share a weight's scale. */
CONSTANT int span_of(int format)
{
    return format == Q2_K || format == Q3_K || format == Q6_K ? 16 : 32;
}

CONSTANT int low_bits(int format)
{
    return format == Q8_0 ? 8 : format == Q2_K || format == Q3_K ? 2 : 4;
}

CONSTANT int high_bits(int format)
{
    return format == Q6_K ? 2 : format == Q5_0 || format == Q5_1 || format == Q5_K || format == Q3_K;
}

CONSTANT int has_min(int format)
{
    return format == Q4_1 || format == Q5_1 || format == Q2_K || format == Q4_K || format == Q5_K;
}

/* What u stands for 0. Values of IQ4_NL and MXFP4 are places in a table, whose numbers are shifted. */
CONSTANT int zero_of(int format)
{
    switch (format) {
    case Q4_0: return 8;
    case Q5_0: return 16;
    case Q8_0: case IQ4_NL: return 128;
    case Q3_K: return 4;
    case Q6_K: return 32;
    case MXFP4: return 12;
    default: return 0;
    }
}

/* The largest u. */
CONSTANT int most_of(int format)
{
    switch (format) {
    case Q8_0: case IQ4_NL: return 255;
    case MXFP4: return 24;
    default: return (1 << (low_bits(format) + high_bits(format))) - 1;
    }
}

/* Bytes of a group's values, of a column. */
CONSTANT int64_t group_bytes(int format)
{
    return FEATURES * GROUP * (low_bits(format) + high_bits(format)) / 8;
}

/* Where the factors of a k-quant lie behind its scales and mins: d, then -dmin, 16 float16 each. */
CONSTANT int64_t factors_bytes(int format)
{
    const int halves = 2 * FEATURES * (1 + has_min(format));
    if (format == MXFP4)
        return FEATURES;
    return is_k_quant(format) ? MAX_UNIT / 32 * 2 * FEATURES + halves : halves;
}

CONSTANT int64_t unit_bytes(int format)
{
    return unit_columns(format) / GROUP * group_bytes(format) + factors_bytes(format);
}

/* Bytes of a row of the file's block. */
int64_t block_bytes(int format);

/* The numbers that places of IQ4_NL and MXFP4 stand for, shifted by zero_of(). */
extern const uint8_t IQ4_NL_VALUES[16], MXFP4_VALUES[16];

#endif
