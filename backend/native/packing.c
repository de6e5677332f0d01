#include "packing.h"

#include <math.h>
#include <string.h>

#include "formats.h"
#include "threads.h"

/* From so many numbers on a second thread pays for being woken. */
enum { PARALLEL_SIZE = 1 << 14 };

const uint8_t IQ4_NL_VALUES[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                   129, 141, 153, 166, 181, 197, 217, 241};
const uint8_t MXFP4_VALUES[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

/* The fields of the file's blocks, as ggml's common header lays them out. */
int64_t block_bytes(int format)
{
    switch (format) {
    case Q4_0: case IQ4_NL: return 18;
    case Q4_1: return 20;
    case Q5_0: return 22;
    case Q5_1: return 24;
    case Q8_0: return 34;
    case Q2_K: return 84;
    case Q3_K: return 110;
    case Q4_K: return 144;
    case Q5_K: return 176;
    case Q6_K: return 210;
    case MXFP4: return 17;
    default: return 0;
    }
}

static int64_t num_columns(int64_t N)
{
    return (N + FEATURES - 1) / FEATURES;
}

int64_t packed_size(const Pack *w)
{
    const int format = (int)w->format;
    if (format == BF16)
        return w->K % GROUP ? -1 : num_columns(w->N) * FEATURES * w->K * 2;
    if (block_bytes(format) == 0 || w->K % unit_columns(format))
        return -1;
    return num_columns(w->N) * (w->K / unit_columns(format)) * unit_bytes(format);
}

/* A block of one feature, in pieces. values: as u, or a place in a table. scales, mins: those of a
   k-quant, else unused. d, dmin: float16 bits. */
typedef struct {
    uint8_t values[MAX_UNIT];
    uint8_t scales[16], mins[8];
    uint16_t d, dmin;
} Block;

static uint16_t half_at(const uint8_t *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return half;
}

/* Blocks of 32: the first half of a block is in the low nibbles, and its fifth bits are in a word. */
CONSTANT void read_small_block(int format, const uint8_t *p, Block *b)
{
    if (format == MXFP4) {
        b->scales[0] = *p++;
    } else {
        b->d = half_at(p);
        p += 2;
    }
    if (has_min(format)) {
        b->dmin = half_at(p);
        p += 2;
    }
    if (format == Q8_0) {
        for (int i = 0; i < GROUP; i++)
            b->values[i] = p[i] ^ 0x80;
        return;
    }
    uint32_t fifth = 0;
    if (high_bits(format)) {
        memcpy(&fifth, p, sizeof fifth);
        p += 4;
    }
    for (int i = 0; i < 16; i++) {
        b->values[i] = (uint8_t)((p[i] & 15) | (fifth >> i & 1) << 4);
        b->values[i + 16] = (uint8_t)(p[i] >> 4 | (fifth >> (i + 16) & 1) << 4);
    }
}

/* Six bits each of eight scales and eight mins, in 12 bytes. */
static void read_six_bits(const uint8_t *p, Block *b)
{
    for (int i = 0; i < 4; i++) {
        b->scales[i] = p[i] & 63;
        b->mins[i] = p[i + 4] & 63;
        b->scales[i + 4] = (uint8_t)((p[i + 8] & 15) | p[i] >> 6 << 4);
        b->mins[i + 4] = (uint8_t)(p[i + 8] >> 4 | p[i + 4] >> 6 << 4);
    }
}

/* Q2_K: 16 bytes of scale and min, 4 bits each; 64 of values; d, dmin. */
static void read_q2_k(const uint8_t *p, Block *b)
{
    memcpy(b->scales, p, 16);
    for (int i = 0; i < MAX_UNIT; i++)
        b->values[i] = p[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    b->d = half_at(p + 80);
    b->dmin = half_at(p + 82);
}

/* Q3_K: 32 bytes of third bits, 64 of the lower two, 12 of 16 six-bit scales; d. */
static void read_q3_k(const uint8_t *p, Block *b)
{
    const uint8_t *third = p, *low = p + 32, *six = p + 96;
    for (int i = 0; i < MAX_UNIT; i++) {
        const int two = low[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        b->values[i] = (uint8_t)(two | (third[i % 32] >> i / 32 & 1) << 2);
    }
    for (int i = 0; i < 16; i++) {
        const int nibble = (i < 8 ? six[i] : six[i - 8] >> 4) & 15;
        const int scale = (nibble | (six[8 + i % 4] >> i / 4 * 2 & 3) << 4) - 32;
        b->scales[i] = (uint8_t)scale;
    }
    b->d = half_at(p + 108);
}

/* Q4_K and Q5_K: d, dmin; 12 bytes of scales and mins; with Q5_K 32 of fifth bits; 128 of nibbles. */
CONSTANT void read_q4_or_q5_k(int format, const uint8_t *p, Block *b)
{
    b->d = half_at(p);
    b->dmin = half_at(p + 2);
    read_six_bits(p + 4, b);
    const uint8_t *fifth = p + 16, *low = fifth + (format == Q5_K ? 32 : 0);
    for (int i = 0; i < MAX_UNIT; i++) {
        const int nibble = low[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
        const int bit = format == Q5_K ? fifth[i % 32] >> i / 32 & 1 : 0;
        b->values[i] = (uint8_t)(nibble | bit << 4);
    }
}

/* Q6_K: 128 bytes of nibbles, 64 of the upper two bits, 16 signed scales; d. */
static void read_q6_k(const uint8_t *p, Block *b)
{
    for (int i = 0; i < MAX_UNIT; i++) {
        const int half = i / 128, quarter = i % 128 / 32, place = i % 32;
        const int nibble = p[half * 64 + quarter % 2 * 32 + place] >> quarter / 2 * 4 & 15;
        const int upper = p[128 + half * 32 + place] >> quarter * 2 & 3;
        b->values[i] = (uint8_t)(nibble | upper << 4);
    }
    memcpy(b->scales, p + 192, 16);
    b->d = half_at(p + 208);
}

CONSTANT void read_block(int format, const uint8_t *p, Block *b)
{
    switch (format) {
    case Q2_K: read_q2_k(p, b); break;
    case Q3_K: read_q3_k(p, b); break;
    case Q4_K: case Q5_K: read_q4_or_q5_k(format, p, b); break;
    case Q6_K: read_q6_k(p, b); break;
    default: read_small_block(format, p, b); break;
    }
}

/* Set bits of a feature's word of a vector. */
CONSTANT void add_bits(uint8_t *vector, int lane, uint32_t bits)
{
    uint32_t word;
    memcpy(&word, vector + 4 * lane, sizeof word);
    word |= bits;
    memcpy(vector + 4 * lane, &word, sizeof word);
}

/* Write a group's 32 values into a feature's lane, a step at a time. */
CONSTANT void write_values(int format, const uint8_t *values, int lane, uint8_t *group)
{
    const int low = low_bits(format), high = high_bits(format);
    const uint32_t mask = low == 8 ? 0xFFFFFFFF : low == 4 ? 0x0F0F0F0F : 0x03030303;
    uint8_t *top = group + FEATURES * GROUP * low / 8;
    for (int step = 0; step < STEPS; step++) {
        const int vector = low == 8 ? step : low == 4 ? step % 4 : step / 4;
        const int shift = low == 8 ? 0 : low == 4 ? step / 4 * 4 : step % 4 * 2;
        uint32_t four;
        memcpy(&four, values + 4 * step, sizeof four);
        add_bits(group + vector * 64, lane, (four & mask) << shift);
        if (high == 1)
            add_bits(top, lane, (four >> low & 0x01010101) << step);
        else if (high == 2)
            add_bits(top + step / 4 * 64, lane, (four >> low & 0x03030303) << step % 4 * 2);
    }
}

static void write_half(uint8_t *out, int lane, uint16_t half)
{
    memcpy(out + 2 * lane, &half, sizeof half);
}

CONSTANT void write_factors(int format, const Block *b, int lane, uint8_t *out)
{
    const int scales = MAX_UNIT / span_of(format);
    if (format == MXFP4) {
        out[lane] = b->scales[0];
        return;
    }
    if (is_k_quant(format)) {
        for (int i = 0; i < scales; i++)
            out[i * FEATURES + lane] = b->scales[i];
        if (span_of(format) == 32)
            for (int i = 0; i < scales; i++)
                out[(scales + i) * FEATURES + lane] = b->mins[i];
        out += MAX_UNIT;
    }
    write_half(out, lane, b->d);
    if (has_min(format))
        /* K-quants subtract their mins. */
        write_half(out + 32, lane, is_k_quant(format) ? b->dmin ^ 0x8000 : b->dmin);
}

CONSTANT void pack_units(int format, const Pack *w, int64_t column)
{
    const int columns = unit_columns(format);
    const int64_t units = w->K / columns, size = unit_bytes(format), block = block_bytes(format);
    uint8_t *out = w->out + column * units * size;
    memset(out, 0, (size_t)(units * size));
    for (int64_t unit = 0; unit < units; unit++, out += size)
        for (int lane = 0; lane < FEATURES && column * FEATURES + lane < w->N; lane++) {
            const int64_t place = (column * FEATURES + lane) * units + unit;
            Block b;
            read_block(format, (const uint8_t *)w->blocks + place * block, &b);
            for (int group = 0; group < columns / GROUP; group++)
                write_values(format, b.values + group * GROUP, lane,
                             out + group * group_bytes(format));
            write_factors(format, &b, lane, out + columns / GROUP * group_bytes(format));
        }
}

/* Compiled once for each format. */
static void pack_column(void *call, int64_t column, int thread)
{
    const Pack *w = call;
    (void)thread;
#define CASE(f) \
    case f: \
        pack_units(f, w, column); \
        break
    switch (w->format) {
    CASE(Q4_0); CASE(Q4_1); CASE(Q5_0); CASE(Q5_1); CASE(Q8_0); CASE(Q2_K); CASE(Q3_K);
    CASE(Q4_K); CASE(Q5_K); CASE(Q6_K); CASE(IQ4_NL); CASE(MXFP4);
    }
#undef CASE
}

/* Dense: two columns of a feature are a word. */
static void pack_dense_column(void *call, int64_t column, int thread)
{
    const Pack *w = call;
    const uint16_t *rows = w->blocks;
    uint16_t *out = (uint16_t *)w->out + column * FEATURES * w->K;
    (void)thread;
    for (int lane = 0; lane < FEATURES; lane++) {
        const int64_t feature = column * FEATURES + lane;
        for (int64_t k = 0; k < w->K; k++)
            out[k / 2 * 32 + lane * 2 + k % 2] = feature < w->N ? rows[feature * w->K + k] : 0;
    }
}

void pack(const Pack *w)
{
    Pack call = *w;
    parallel_for(num_columns(w->N), w->format == BF16 ? pack_dense_column : pack_column, &call);
}

static float float_of_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t bits = sign | (uint32_t)(half & 0x7FFF) << 13;
    float value;
    bits += exponent == 31 ? 0x70000000u : 0x38000000u;
    if (exponent == 0) {
        value = ldexpf((float)(half & 0x3FF), -24);
        return sign ? -value : value;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        return (uint16_t)((bits | 0x400000) >> 16);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Return u of a feature's column within a group. */
static int value_at(int format, const uint8_t *group, int lane, int i)
{
    const int low = low_bits(format), high = high_bits(format), step = i / 4;
    const int byte = lane * 4 + i % 4;
    const int vector = low == 8 ? step : low == 4 ? step % 4 : step / 4;
    const int shift = low == 8 ? 0 : low == 4 ? step / 4 * 4 : step % 4 * 2;
    const uint8_t *top = group + FEATURES * GROUP * low / 8;
    int value = group[vector * 64 + byte] >> shift & ((1 << low) - 1);
    if (high == 1)
        value |= (top[byte] >> step & 1) << low;
    else if (high == 2)
        value |= (top[step / 4 * 64 + byte] >> step % 4 * 2 & 3) << low;
    return format == IQ4_NL ? IQ4_NL_VALUES[value] : format == MXFP4 ? MXFP4_VALUES[value] : value;
}

/* The scale, and the min or 0, of a feature's columns from `first` of a unit on. */
static void factors_at(int format, const uint8_t *unit, int lane, int first, float *scale,
                       float *min)
{
    const uint8_t *p = unit + unit_columns(format) / GROUP * group_bytes(format);
    *min = 0.0f;
    if (format == MXFP4) {
        /* The values are doubled. */
        *scale = ldexpf(1.0f, p[lane] - 128);
        return;
    }
    const uint8_t *halves = p + (is_k_quant(format) ? MAX_UNIT : 0);
    const float d = float_of_half(half_at(halves + 2 * lane));
    const float m = has_min(format) ? float_of_half(half_at(halves + 32 + 2 * lane)) : 0.0f;
    const int place = first / span_of(format) * FEATURES + lane;
    switch (format) {
    case Q2_K:
        *scale = d * (float)(p[place] & 15);
        *min = m * (float)(p[place] >> 4);
        break;
    case Q3_K: case Q6_K:
        *scale = d * (float)(int8_t)p[place];
        break;
    case Q4_K: case Q5_K:
        *scale = d * (float)p[place];
        *min = m * (float)p[place + 128];
        break;
    default:
        *scale = d;
        *min = m;
    }
}

static void embed_row(const Embed *e, int64_t id, uint16_t *out)
{
    const int format = (int)e->format, lane = (int)(id % FEATURES);
    const int columns = unit_columns(format), span = span_of(format);
    const uint8_t *unit = e->packed + id / FEATURES * (e->K / columns) * unit_bytes(format);
    for (int64_t k = 0; k < e->K; k += columns, unit += unit_bytes(format))
        for (int first = 0; first < columns; first += span) {
            const uint8_t *group = unit + first / GROUP * group_bytes(format);
            float scale, min;
            factors_at(format, unit, lane, first, &scale, &min);
            for (int i = 0; i < span; i++) {
                const int value = value_at(format, group, lane, (first + i) % GROUP);
                const float scaled = scale * (float)(value - zero_of(format));
                out[k + first + i] = bf16_of(has_min(format) ? scaled + min : scaled);
            }
        }
}

static void embed_dense_row(const Embed *e, int64_t id, uint16_t *out)
{
    const uint16_t *column = (const uint16_t *)e->packed + id / FEATURES * FEATURES * e->K;
    for (int64_t k = 0; k < e->K; k++)
        out[k] = column[k / 2 * 32 + id % FEATURES * 2 + k % 2];
}

static void embed_one(void *call, int64_t i, int thread)
{
    const Embed *e = call;
    (void)thread;
    if (e->format == BF16)
        embed_dense_row(e, e->ids[i], e->out + i * e->K);
    else
        embed_row(e, e->ids[i], e->out + i * e->K);
}

int embed(const Embed *e)
{
    Embed call = *e;
    for (int64_t i = 0; i < e->num_ids; i++)
        if (e->ids[i] < 0 || e->ids[i] >= e->N)
            return -1;
    parallel_for_if(e->num_ids * e->K > PARALLEL_SIZE, e->num_ids, embed_one, &call);
    return 0;
}
