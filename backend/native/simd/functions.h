/* Functions of numbers, the same arithmetic at every level. */
#ifndef UNISONO_SIMD_FUNCTIONS_H
#define UNISONO_SIMD_FUNCTIONS_H

#include <string.h>

SIMD_BEGIN

/* 2^x within 3e-7 of the result; 0 below -126, 2^127 at most; NaN stays NaN. The polynomial: Taylor's
   of 2^f, |f| <= 1/2, degree 6. */
INLINE f32x16 f32_exp2(f32x16 x)
{
    const f32x16 least = f32_set1(-126.0f);
    const m32x16 is_zero = f32_greater(least, x);
    /* The second operand is what max and min return for NaN. */
    x = f32_min(f32_set1(127.0f), f32_max(least, x));
    const f32x16 n = f32_round(x), f = f32_sub(x, n);
    f32x16 y = f32_set1(1.5403530393381608e-4f);
    y = f32_fma(y, f, f32_set1(1.3333558146428443e-3f));
    y = f32_fma(y, f, f32_set1(9.618129107628477e-3f));
    y = f32_fma(y, f, f32_set1(5.550410866482158e-2f));
    y = f32_fma(y, f, f32_set1(2.402265069591007e-1f));
    y = f32_fma(y, f, f32_set1(6.931471805599453e-1f));
    y = f32_fma(y, f, f32_set1(1.0f));
    return f32_select(is_zero, f32_zero(), f32_ldexp(y, n));
}

/* e^x */
INLINE f32x16 f32_exp(f32x16 x)
{
    return f32_exp2(f32_mul(x, f32_set1(1.4426950408889634f)));
}

/* ln(1 + y) for y in [0, 1], within 1e-7: 2 artanh(y / (2 + y)) by its series. */
INLINE f32x16 f32_log1p(f32x16 y)
{
    const f32x16 s = f32_div(y, f32_add(y, f32_set1(2.0f))), square = f32_mul(s, s);
    f32x16 sum = f32_set1(2.0f / 15.0f);
    sum = f32_fma(sum, square, f32_set1(2.0f / 13.0f));
    sum = f32_fma(sum, square, f32_set1(2.0f / 11.0f));
    sum = f32_fma(sum, square, f32_set1(2.0f / 9.0f));
    sum = f32_fma(sum, square, f32_set1(2.0f / 7.0f));
    sum = f32_fma(sum, square, f32_set1(2.0f / 5.0f));
    sum = f32_fma(sum, square, f32_set1(2.0f / 3.0f));
    sum = f32_fma(sum, square, f32_set1(2.0f));
    return f32_mul(sum, s);
}

/* ln(1 + e^x) */
INLINE f32x16 f32_softplus(f32x16 x)
{
    const f32x16 zero = f32_zero(), negative = f32_min(x, f32_sub(zero, x));
    /* The second operand is what max returns for NaN. */
    return f32_add(f32_max(zero, x), f32_log1p(f32_exp(negative)));
}

INLINE float bf16_to_float(bf16 x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* x / (1 + e^-x) */
INLINE f32x16 f32_silu(f32x16 x)
{
    const f32x16 minus_log2e = f32_set1(-1.4426950408889634f);
    return f32_div(x, f32_add(f32_set1(1.0f), f32_exp2(f32_mul(x, minus_log2e))));
}

/* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is x / (1 + e^-2u) of the same u. */
INLINE f32x16 f32_gelu(f32x16 x)
{
    /* -2 log2(e) sqrt(2 / pi), and that times 0.044715 */
    const f32x16 first = f32_set1(-2.302208198f), third = f32_set1(-0.1029432397f);
    const f32x16 power = f32_exp2(f32_mul(x, f32_fma(f32_mul(x, x), third, first)));
    return f32_div(x, f32_add(f32_set1(1.0f), power));
}

/* x / 2 (1 + erf(x / sqrt(2))), within 2e-7 of x; of z = |x| / sqrt(2) erfc(z) is formula 7.1.26 of Abramowitz
   and Stegun, Handbook of Mathematical Functions. */
INLINE f32x16 f32_gelu_erf(f32x16 x)
{
    const f32x16 zero = f32_zero(), one = f32_set1(1.0f), minus = f32_sub(zero, x);
    const f32x16 z = f32_mul(f32_max(minus, x), f32_set1(0.70710678f));
    const f32x16 t = f32_div(one, f32_fma(z, f32_set1(0.3275911f), one));
    f32x16 y = f32_set1(1.061405429f);
    y = f32_fma(y, t, f32_set1(-1.453152027f));
    y = f32_fma(y, t, f32_set1(1.421413741f));
    y = f32_fma(y, t, f32_set1(-0.284496736f));
    y = f32_fma(y, t, f32_set1(0.254829592f));
    const f32x16 power = f32_exp(f32_sub(zero, f32_mul(z, z)));
    const f32x16 half = f32_mul(f32_mul(f32_mul(y, t), power), f32_set1(0.5f));
    const f32x16 part = f32_mul(x, half);
    return f32_select(f32_greater(zero, x), part, f32_sub(x, part));
}

/* (e^2x - 1) / (e^2x + 1), within 2e-7. */
INLINE f32x16 f32_tanh(f32x16 x)
{
    const f32x16 one = f32_set1(1.0f);
    const f32x16 power = f32_exp2(f32_mul(x, f32_set1(2.8853900817779268f)));
    return f32_div(f32_sub(power, one), f32_add(power, one));
}

SIMD_END

#endif
