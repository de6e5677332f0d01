/* A vector is four of four numbers, which gcc and clang compile for any processor. See simd.h for what
   the functions do. */
#ifndef UNISONO_SIMD_PORTABLE_H
#define UNISONO_SIMD_PORTABLE_H

#include <string.h>

#include "simd.h"

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

typedef struct {
    f32x4 part[4];
} f32x16;

typedef struct {
    i32x4 part[4];
} i32x16, m32x16;

#define PARTS \
    UNROLL \
    for (int i = 0; i < 4; i++)
/* A function of two vectors, by an expression of their parts a and b. */
#define BY_PARTS(Type, name, Operand, expression) \
    INLINE Type name(Operand x, Operand y) \
    { \
        Type out; \
        PARTS \
        { \
            const __typeof__(x.part[0]) a = x.part[i], b = y.part[i]; \
            out.part[i] = expression; \
        } \
        return out; \
    }

INLINE f32x4 select_4(i32x4 mask, f32x4 a, f32x4 b)
{
    return (f32x4)((mask & (i32x4)a) | (~mask & (i32x4)b));
}

BY_PARTS(f32x16, f32_add, f32x16, a + b)
BY_PARTS(f32x16, f32_sub, f32x16, a - b)
BY_PARTS(f32x16, f32_mul, f32x16, a * b)
BY_PARTS(f32x16, f32_div, f32x16, a / b)
BY_PARTS(f32x16, f32_max, f32x16, select_4(a > b, a, b))
BY_PARTS(f32x16, f32_min, f32x16, select_4(a < b, a, b))
BY_PARTS(m32x16, f32_greater, f32x16, a > b)
BY_PARTS(m32x16, f32_unordered, f32x16, (a != a) | (b != b))
BY_PARTS(m32x16, mask_and, m32x16, a & b)
BY_PARTS(m32x16, mask_or, m32x16, a | b)
BY_PARTS(i32x16, i32_add, i32x16, a + b)
BY_PARTS(i32x16, i32_mul, i32x16, a * b)

INLINE f32x16 f32_load(const float *p)
{
    f32x16 out;
    memcpy(&out, p, sizeof out);
    return out;
}

INLINE void f32_store(float *p, f32x16 x)
{
    memcpy(p, &x, sizeof x);
}

INLINE f32x16 f32_set1(float x)
{
    const f32x4 part = {x, x, x, x};
    return (f32x16){{part, part, part, part}};
}

INLINE f32x16 f32_zero(void)
{
    return f32_set1(0.0f);
}

INLINE f32x4 fma_4(f32x4 a, f32x4 b, f32x4 c)
{
    return (f32x4){__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]),
                   __builtin_fmaf(a[2], b[2], c[2]), __builtin_fmaf(a[3], b[3], c[3])};
}

INLINE f32x4 round_4(f32x4 x)
{
    return (f32x4){__builtin_rintf(x[0]), __builtin_rintf(x[1]), __builtin_rintf(x[2]),
                   __builtin_rintf(x[3])};
}

INLINE f32x16 f32_fma(f32x16 a, f32x16 b, f32x16 c)
{
    PARTS
        c.part[i] = fma_4(a.part[i], b.part[i], c.part[i]);
    return c;
}

INLINE f32x16 f32_round(f32x16 x)
{
    PARTS
        x.part[i] = round_4(x.part[i]);
    return x;
}

/* 2^n: 1.5 * 2^23 + 127 makes n + 127 the lowest bits, which become the exponent. */
INLINE f32x16 f32_ldexp(f32x16 x, f32x16 n)
{
    PARTS
    {
        const f32x4 biased = n.part[i] + (12582912.0f + 127.0f);
        x.part[i] *= (f32x4)((u32x4)biased << 23);
    }
    return x;
}

INLINE float f32_reduce_add(f32x16 x)
{
    const f32x4 sums = (x.part[0] + x.part[2]) + (x.part[1] + x.part[3]);
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

INLINE float f32_reduce_max(f32x16 x)
{
    const f32x4 a = select_4(x.part[0] > x.part[2], x.part[0], x.part[2]);
    const f32x4 b = select_4(x.part[1] > x.part[3], x.part[1], x.part[3]);
    const f32x4 most = select_4(a > b, a, b);
    const float even = most[0] > most[2] ? most[0] : most[2];
    const float odd = most[1] > most[3] ? most[1] : most[3];
    return even > odd ? even : odd;
}

INLINE float f32_first(f32x16 x)
{
    return x.part[0][0];
}

INLINE f32x16 f32_select(m32x16 mask, f32x16 a, f32x16 b)
{
    PARTS
        b.part[i] = select_4(mask.part[i], a.part[i], b.part[i]);
    return b;
}

INLINE m32x16 mask_first(int64_t n)
{
    const int count = n >= LANES ? LANES : n <= 0 ? 0 : (int)n;
    m32x16 out;
    PARTS
        out.part[i] = (i32x4){4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3} < count;
    return out;
}

INLINE m32x16 mask_range(int64_t begin, int64_t end)
{
    const m32x16 before = mask_first(begin);
    m32x16 out = mask_first(end);
    PARTS
        out.part[i] &= ~before.part[i];
    return out;
}

INLINE m32x16 mask_from_bits(uint32_t bits)
{
    m32x16 out;
    PARTS
    {
        const i32x4 lanes = {1 << (4 * i), 2 << (4 * i), 4 << (4 * i), 8 << (4 * i)};
        out.part[i] = ((int32_t)bits & lanes) == lanes;
    }
    return out;
}

INLINE uint32_t mask_bits(m32x16 mask)
{
    uint32_t bits = 0;
    PARTS
        for (int lane = 0; lane < 4; lane++)
            bits |= (uint32_t)(mask.part[i][lane] & 1) << (4 * i + lane);
    return bits;
}

INLINE i32x16 i32_set1(int32_t x)
{
    const i32x4 part = {x, x, x, x};
    return (i32x16){{part, part, part, part}};
}

INLINE i32x16 i32_zero(void)
{
    return i32_set1(0);
}

INLINE i32x16 i32_load(const void *p)
{
    i32x16 out;
    memcpy(&out, p, sizeof out);
    return out;
}

INLINE void i32_store(void *p, i32x16 x)
{
    memcpy(p, &x, sizeof x);
}

INLINE void i32_transpose(i32x16 *x)
{
    int32_t in[LANES][LANES], out[LANES][LANES];
    memcpy(in, x, sizeof in);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++)
            out[j][i] = in[i][j];
    memcpy(x, out, sizeof out);
}

INLINE f32x16 i32_to_f32(i32x16 x)
{
    f32x16 out;
    PARTS
        out.part[i] = __builtin_convertvector(x.part[i], f32x4);
    return out;
}

INLINE i32x16 f32_to_i32(f32x16 x)
{
    const f32x16 rounded = f32_round(x);
    i32x16 out;
    PARTS
        out.part[i] = __builtin_convertvector(rounded.part[i], i32x4);
    return out;
}

INLINE i32x16 u8_load_i32(const uint8_t *p)
{
    i32x16 out;
    PARTS
        out.part[i] = (i32x4){p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
    return out;
}

INLINE i32x16 i8_load_i32(const int8_t *p)
{
    i32x16 out;
    PARTS
        out.part[i] = (i32x4){p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
    return out;
}

INLINE i32x16 u16_load_i32(const uint16_t *p)
{
    i32x16 out;
    PARTS
        out.part[i] = (i32x4){p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
    return out;
}

/* Exponent and fraction are shifted to where a float has them; 2^112 is what its exponent's bias has
   more. Of infinity and NaN the exponent is set instead. */
INLINE f32x16 f16_load(const uint16_t *p)
{
    const i32x16 halves = u16_load_i32(p);
    f32x16 out;
    PARTS
    {
        const i32x4 sign = (i32x4)((u32x4)(halves.part[i] & 0x8000) << 16);
        const i32x4 shifted = (halves.part[i] & 0x7FFF) << 13;
        const i32x4 scaled = (i32x4)((f32x4)shifted * 0x1p112f);
        const i32x4 special = ((halves.part[i] & 0x7C00) == 0x7C00) & (shifted | 0x7F800000);
        out.part[i] = (f32x4)(sign | scaled | special);
    }
    return out;
}

INLINE f32x16 pairs_first(i32x16 pairs)
{
    f32x16 out;
    PARTS
        out.part[i] = (f32x4)((u32x4)pairs.part[i] << 16);
    return out;
}

INLINE f32x16 pairs_second(i32x16 pairs)
{
    f32x16 out;
    PARTS
        out.part[i] = (f32x4)(pairs.part[i] & (int32_t)0xFFFF0000);
    return out;
}

INLINE f32x16 bf16_load(const bf16 *p)
{
    return pairs_first(u16_load_i32(p));
}

INLINE bf16 bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return (bf16)((bits | 0x400000) >> 16);
    return (bf16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

INLINE void bf16_store(bf16 *p, f32x16 x)
{
    PARTS
        for (int lane = 0; lane < 4; lane++)
            p[4 * i + lane] = bf16_of(x.part[i][lane]);
}

INLINE f32x16 bf16_round(f32x16 x)
{
    bf16 rounded[LANES];
    bf16_store(rounded, x);
    return bf16_load(rounded);
}

#undef BY_PARTS
#undef PARTS

#include "tails.h"

#include "functions.h"

#endif
