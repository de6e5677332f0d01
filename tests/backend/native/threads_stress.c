/* Stress of backend/native/threads.c: `stress CASE THREADS CALLS` exits with 0 if the case held. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "threads.h"

enum { MOST = 1000, MANY = 256 };
static const int COUNTS[] = {0, 1, 2, 3, 7, 64, MOST};

static void hold(int is_true, const char *claim)
{
    if (!is_true) {
        fprintf(stderr, "not so: %s\n", claim);
        _exit(1);
    }
}

/* How often each task has run; plain integers, so that a race on one is a finding. */
typedef struct {
    int64_t runs[MOST];
    atomic_int inside[MANY];
} Marks;

static void mark(void *context, int64_t index, int thread)
{
    Marks *marks = context;
    hold(thread >= 0 && thread < num_threads(), "a thread's number is below num_threads()");
    hold(atomic_exchange(&marks->inside[thread], 1) == 0, "a thread's number is of one task at a time");
    marks->runs[index]++;
    atomic_store(&marks->inside[thread], 0);
}

static void run_and_check(int calls)
{
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        Marks *marks = calloc(1, sizeof *marks);
        for (int call = 0; call < calls; call++)
            parallel_for(COUNTS[i], mark, marks);
        for (int task = 0; task < MOST; task++)
            hold(marks->runs[task] == (task < COUNTS[i] ? calls : 0), "each task ran once a call");
        free(marks);
    }
}

static void short_jobs(int calls)
{
    Marks marks = {0};
    for (int call = 0; call < calls; call++)
        parallel_for(2, mark, &marks);
    hold(marks.runs[0] == calls && marks.runs[1] == calls, "each task of a short job ran once");
}

/* Several jobs as one: each task of each runs once, by its own number. */
static void joined(int calls)
{
    enum { JOBS = sizeof COUNTS / sizeof *COUNTS + 1 };
    Marks *marks = calloc(JOBS, sizeof *marks);
    Job jobs[JOBS];
    for (int call = 0; call < calls; call++) {
        for (int i = 0; i < JOBS; i++)
            jobs[i] = (Job){.count = i < JOBS - 1 ? COUNTS[i] : 0, .task = mark, .context = marks + i};
        parallel_for_jobs(1, jobs, JOBS);
    }
    for (int i = 0; i < JOBS; i++)
        for (int task = 0; task < MOST; task++)
            hold(marks[i].runs[task] == (task < jobs[i].count ? calls : 0), "each task ran once a call");
    parallel_for_jobs(1, jobs, 0);
    free(marks);
}

static void resized(int calls)
{
    const int most = num_threads();
    for (int call = 0; call < calls; call++) {
        set_num_threads(1 + call % most);
        run_and_check(1);
    }
}

/* Returns when as many tasks are inside as there are threads. */
static void meet(void *arrived, int64_t index, int thread)
{
    (void)index, (void)thread;
    atomic_fetch_add((atomic_int *)arrived, 1);
    while (atomic_load((atomic_int *)arrived) < num_threads())
        sched_yield();
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Every thread must come, also after the others have had time to fall asleep. A lost wake-up hangs. */
static void meetings(int calls)
{
    for (int call = 0; call < calls; call++) {
        atomic_int arrived = 0;
        const int64_t end = now_us() + call % 4 * 60;
        while (now_us() < end)
            continue;
        parallel_for(num_threads(), meet, &arrived);
    }
}

static void run_nested(void *context, int64_t index, int thread)
{
    (void)context, (void)index, (void)thread;
    run_and_check(1);
}

static void nested(int calls)
{
    for (int call = 0; call < calls; call++)
        parallel_for(9, run_nested, NULL);
}

static void *run_beside(void *calls)
{
    run_and_check(*(int *)calls);
    return NULL;
}

static void beside_each_other(int calls)
{
    pthread_t callers[3];
    for (int i = 0; i < 3; i++)
        hold(pthread_create(callers + i, NULL, run_beside, &calls) == 0, "a caller starts");
    for (int i = 0; i < 3; i++)
        pthread_join(callers[i], NULL);
}

/* A fork, of which the child forks; all compute, with the threads that they have by then. */
static void forked(int calls)
{
    for (int depth = 0; depth < 3; depth++) {
        run_and_check(calls);
        const pid_t child = fork();
        hold(child >= 0, "a child starts");
        if (child > 0) {
            int status;
            run_and_check(calls);
            hold(waitpid(child, &status, 0) == child && status == 0, "the child computes");
            return;
        }
    }
    _exit(0);
}

/* threads.c may be built to start its threads by this. */
int start_none(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context)
{
    (void)thread, (void)attributes, (void)run, (void)context;
    return EAGAIN;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(int calls);
    } cases[] = {
        {"many_jobs", run_and_check}, {"short_jobs", short_jobs}, {"resized", resized}, {"joined", joined},
        {"meetings", meetings}, {"nested", nested}, {"beside_each_other", beside_each_other},
        {"forked", forked},
    };
    hold(argc == 4, "there are three arguments");
    set_num_threads(atoi(argv[2]));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run(atoi(argv[3]));
            set_num_threads(1);
            return 0;
        }
    hold(0, "there is such a case");
}
