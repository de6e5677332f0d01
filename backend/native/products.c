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

/* What is kept of a group that has rows. */
typedef struct {
    Gemm gemm;
    void *memory;
} Group;

static Gemm gemm_of(const GroupedGemm *g, int64_t group, int64_t start)
{
    const int64_t size = g->epilogue == EPILOGUE_FLOAT ? 4 : 2;
    return (Gemm){
        .format = g->format, .activations = g->activations, .epilogue = g->epilogue,
        .M = g->ends[group] - start, .N = g->N, .K = g->K, .x = g->x + start * g->K,
        .packed = g->packed[group], .bias = g->biases == NULL ? NULL : g->biases[group],
        .limit = g->limit, .alpha = g->alpha, .offset = g->offset, .out = (char *)g->out + start * g->out_stride * size,
        .out_stride = g->out_stride,
    };
}

int grouped_gemm_by(Prepare prepare, const GroupedGemm *g)
{
    Group *groups = malloc((size_t)g->groups * (sizeof *groups + 2 * sizeof(Job)));
    Job *rows = (Job *)(groups + g->groups), *panels = rows + g->groups;
    int64_t used = 0, start = 0;
    int failed = groups == NULL;
    for (int64_t i = 0; i < g->groups && !failed; start = g->ends[i++]) {
        Product product;
        if (g->ends[i] == start)
            continue;
        groups[used].gemm = gemm_of(g, i, start);
        failed = prepare(&groups[used].gemm, &product) != 0;
        if (failed)
            break;
        groups[used].memory = product.memory;
        rows[used] = product.rows;
        panels[used++] = product.panels;
    }
    if (!failed) {
        parallel_for_jobs(start * g->K > ROWS_PARALLEL_SIZE, rows, used);
        parallel_for_jobs(start * g->N * g->K > GEMM_PARALLEL_SIZE, panels, used);
    }
    for (int64_t i = 0; i < used; i++)
        free(groups[i].memory);
    free(groups);
    return failed ? -1 : 0;
}
