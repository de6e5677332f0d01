/* Vectors of 16 numbers, whatever the instruction level: a level's kernels are compiled from the same
   source as any other's and do the same arithmetic in the same order, so that results are the same
   bits. What a level cannot have alike (dot products of bf16) its kernels ask for by a macro.

   Included by avx512.h, avx2.h and portable.h alone, of which a level's file includes one, after
   LEVEL_TARGET: the instructions its functions may use, as gcc and clang name them. Those headers have

     f32x16, i32x16   16 numbers
     m32x16           16 yes or no, a lane's mask

     f32_set1 f32_zero f32_load f32_store        16 floats; addresses need not be aligned
     f32_load_some f32_store_some                n of them, from 0 to 16: the other lanes are zero, or
                                                 left as they are in memory, which is not touched
     f32_add f32_sub f32_mul f32_div
     f32_fma                                     a * b + c, rounded once
     f32_max f32_min                             the second, if one is NaN
     f32_round                                   to the nearest integer, to even
     f32_ldexp                                   x * 2^n, n an integer from -126 to 127 as a float
     f32_reduce_add f32_reduce_max               of 16: lanes 8 apart, then 4, 2 and 1
     f32_first                                   lane 0
     f32_greater f32_unordered                   -> m32x16: a > b; a or b is NaN
     f32_select                                  (mask, a, b): a where the mask has a lane, else b
     mask_first mask_range                       the first n lanes; those from begin to before end;
                                                 of any numbers
     mask_and mask_or mask_bits mask_from_bits   bit i is lane i
     i32_set1 i32_zero i32_load i32_store i32_add i32_mul i32_to_f32
     f32_to_i32                                  to the nearest, to even; of what fits in 32 bits
     i32_transpose                               16 vectors: lane j of vector i goes to lane i of j
     u8_load_i32 i8_load_i32                     16 bytes
     f16_load                                    16 float16
     bf16_load bf16_store                        16 bf16; to the nearest, to even; NaN stays NaN
     bf16_load_some bf16_store_some
     bf16_round                                  a float that a bf16 holds
     pairs_first pairs_second                    16 pairs of bf16, a pair a word of an i32x16 */
#ifndef UNISONO_SIMD_H
#define UNISONO_SIMD_H

#include <stdint.h>

#define SIMD_PRAGMA_(text) _Pragma(#text)
#define SIMD_PRAGMA(text) SIMD_PRAGMA_(text)
#ifndef LEVEL_TARGET
#define SIMD_BEGIN
#define SIMD_END
#elif defined(__clang__)
#define SIMD_BEGIN \
    SIMD_PRAGMA(clang attribute push(__attribute__((target(LEVEL_TARGET))), apply_to = function))
#define SIMD_END SIMD_PRAGMA(clang attribute pop)
#else
#define SIMD_BEGIN SIMD_PRAGMA(GCC push_options) SIMD_PRAGMA(GCC target(LEVEL_TARGET))
#define SIMD_END SIMD_PRAGMA(GCC pop_options)
#endif

/* Unroll a short loop with a constant end, so that arrays it indexes stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

typedef uint16_t bf16;

#endif
