/* First a bound: the count-th largest of the peaks of many small parts, of which each holds a number
   as large as its peak. Then, in order, whatever lies above the bound, and the first that equal it. */
#include "topk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "simd.h"
#include "threads.h"

/* A part is a lane of some vectors. Fewer, larger parts leave more above the bound. */
enum { PEAKS_EACH = 4, MAX_PEAKS = PEAKS_EACH * TOPK_MAX + 16 };

typedef struct {
    float value;
    int32_t id;
} Candidate;

static int by_value_then_id(const void *a, const void *b)
{
    const Candidate *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Return the n-th largest (from 0) of `count` numbers, none of them NaN; moves them about. Hoare's
   selection. */
static float nth_largest(float *values, int64_t count, int64_t n)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const float pivot = values[(low + high) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i <= j) {
                const float swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (n <= j)
            high = j;
        else if (n >= i)
            low = i;
        else
            break;
    }
    return values[n];
}

SIMD_BEGIN

INLINE __m512 load_floats(const float *p, int64_t left)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), first(left), p);
}

/* Return a number that at least `count` of the row reach; NaN if the row has NaN. */
static float bound_of(const float *row, int64_t width, int64_t count)
{
    float peaks[MAX_PEAKS] __attribute__((aligned(64)));
    const int64_t vectors = (width + 15) / 16;
    const int64_t parts = (PEAKS_EACH * count + 15) / 16, part = (vectors + parts - 1) / parts;
    int64_t num_peaks = 0;
    __mmask16 has_nan = 0;
    for (int64_t v = 0; v < vectors; v += part, num_peaks += 16) {
        __m512 peak = _mm512_set1_ps(-INFINITY);
        for (int64_t i = v; i < v + part && i < vectors; i++) {
            const __m512 x = load_floats(row + 16 * i, width - 16 * i);
            has_nan |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
            peak = _mm512_max_ps(peak, x);
        }
        _mm512_store_ps(peaks + num_peaks, peak);
    }
    if (has_nan)
        return NAN;
    return count <= num_peaks ? nth_largest(peaks, num_peaks, count - 1) : -INFINITY;
}

/* `found`: room for all that lie above the bound, width at most. */
static void select_row(const float *row, int64_t width, int64_t count, Candidate *found,
                       float *values, int64_t *ids)
{
    const float bound = bound_of(row, width, count);
    if (isnan(bound)) {
        for (int64_t i = 0; i < count; i++) {
            values[i] = NAN;
            ids[i] = 0;
        }
        return;
    }
    const __m512 limit = _mm512_set1_ps(bound);
    Candidate equal[TOPK_MAX];
    int64_t above = 0, level = 0;
    for (int64_t start = 0; start < width; start += 16) {
        const __m512 x = load_floats(row + start, width - start);
        const __mmask16 here = first(width - start);
        uint32_t reach = _mm512_mask_cmp_ps_mask(here, x, limit, _CMP_GE_OQ);
        for (; reach; reach &= reach - 1) {
            const int64_t id = start + __builtin_ctz(reach);
            if (row[id] > bound)
                found[above++] = (Candidate){row[id], (int32_t)id};
            else if (level < count)
                equal[level++] = (Candidate){bound, (int32_t)id};
        }
    }
    qsort(found, above, sizeof *found, by_value_then_id);
    for (int64_t i = 0; i < count; i++) {
        const Candidate *each = i < above ? found + i : equal + (i - above);
        values[i] = each->value;
        ids[i] = each->id;
    }
}

typedef struct {
    const TopK *t;
    Candidate *found; /* [threads, width] */
} Selection;

static void select_of_row(void *selection, int64_t row, int thread)
{
    const Selection *s = selection;
    const int64_t width = s->t->width, count = s->t->count;
    select_row(s->t->logits + row * width, width, count, s->found + thread * width,
               s->t->values + row * count, s->t->ids + row * count);
}

int topk(const TopK *t)
{
    const int threads = t->rows > 3 ? num_threads() : 1;
    Selection selection = {t, malloc(threads * t->width * sizeof(Candidate))};
    if (selection.found == NULL)
        return -1;
    parallel_for_if(t->rows > 3, t->rows, select_of_row, &selection);
    free(selection.found);
    return 0;
}

SIMD_END
