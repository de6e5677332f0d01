/* Runs products that a level has made ready: one, or those of several groups of rows together. */
#include <stdlib.h>

#include "gemm.h"

/* From so many multiplications, and from so many numbers of x to prepare, on a second thread pays for being
   woken. */
enum { GEMM_PARALLEL_SIZE = 1 << 17, ROWS_PARALLEL_SIZE = 1 << 15 };

int gemm_by(Prepare prepare, const Gemm *p)
{
    Product product;
    if (p->M == 0)
        return 0;
    if (prepare(p, &product) != 0)
        return -1;
    const Job *rows = &product.rows, *panels = &product.panels;
    parallel_for_if(p->M * p->K > ROWS_PARALLEL_SIZE, rows->count, rows->task, rows->context);
    parallel_for_if(p->M * p->N * p->K > GEMM_PARALLEL_SIZE, panels->count, panels->task,
                    panels->context);
    free(product.memory);
    return 0;
}

/* Products that run together, each by a weight of its own. */
typedef struct {
    Gemm gemm;
    void *memory;
} Group;

typedef struct {
    Group *groups;
    Job *rows, *panels;
    int64_t num_groups, num_rows;
} Groups;

/* Return room for so many; without groups if there is no memory. */
static Groups room_for(int64_t count)
{
    Group *groups = malloc((size_t)count * (sizeof *groups + 2 * sizeof(Job)));
    Job *rows = (Job *)(groups + count);
    return (Groups){.groups = groups, .rows = rows, .panels = rows + count};
}

static void add(Groups *g, Gemm gemm)
{
    g->groups[g->num_groups++].gemm = gemm;
    g->num_rows += gemm.M;
}

static int run_groups(Prepare prepare, const Groups *g, int64_t N, int64_t K)
{
    int64_t ready = 0;
    for (; ready < g->num_groups; ready++) {
        Product product;
        if (prepare(&g->groups[ready].gemm, &product) != 0)
            break;
        g->groups[ready].memory = product.memory;
        g->rows[ready] = product.rows;
        g->panels[ready] = product.panels;
    }
    const int failed = ready < g->num_groups;
    if (!failed) {
        parallel_for_jobs(g->num_rows * K > ROWS_PARALLEL_SIZE, g->rows, ready);
        parallel_for_jobs(g->num_rows * N * K > GEMM_PARALLEL_SIZE, g->panels, ready);
    }
    for (int64_t i = 0; i < ready; i++)
        free(g->groups[i].memory);
    free(g->groups);
    return failed ? -1 : 0;
}

static Gemm gemm_of(const GroupedGemm *g, int64_t group, int64_t start)
{
    const int64_t size = g->epilogue == EPILOGUE_FLOAT ? 4 : 2;
    return (Gemm){
        .format = g->format, .activations = g->activations, .epilogue = g->epilogue,
        .M = g->ends[group] - start, .N = g->N, .K = g->K, .x = g->x + start * g->K, .x_stride = g->K,
        .packed = g->packed[group], .bias = g->biases == NULL ? NULL : g->biases[group],
        .limit = g->limit, .alpha = g->alpha, .offset = g->offset, .out = (char *)g->out + start * g->out_stride * size,
        .out_stride = g->out_stride,
    };
}

int grouped_gemm_by(Prepare prepare, const GroupedGemm *g)
{
    Groups own = room_for(g->groups);
    if (own.groups == NULL)
        return -1;
    for (int64_t i = 0, start = 0; i < g->groups; start = g->ends[i++])
        if (g->ends[i] > start)
            add(&own, gemm_of(g, i, start));
    return run_groups(prepare, &own, g->N, g->K);
}

int head_gemm_by(Prepare prepare, const HeadGemm *h)
{
    if (h->tokens == 0)
        return 0;
    Groups own = room_for(h->num_heads);
    if (own.groups == NULL)
        return -1;
    for (int64_t i = 0; i < h->num_heads; i++)
        add(&own, (Gemm){
            .format = h->format, .activations = h->activations, .epilogue = EPILOGUE_BF16,
            .M = h->tokens, .N = h->N, .K = h->K, .x = h->x + i * h->x_step, .x_stride = h->x_stride,
            .packed = h->packed[i], .out = h->out + i * h->out_step, .out_stride = h->out_stride,
        });
    return run_groups(prepare, &own, h->N, h->K);
}
