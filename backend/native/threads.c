#define _GNU_SOURCE
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "futex.h"

enum {
    MAX_THREADS = 256,
    /* A kernel keeps 100 KB there; some C libraries give a thread less by default. */
    STACK_SIZE = 2 << 20,
    /* A claim is this part of a thread's share of what is left, so that tasks that follow each other
       mostly run on one thread and the last ones are claimed singly. */
    CLAIMS_EACH = 4,
    /* How long a thread looks for a change before it sleeps: meant to span the gaps between kernels,
       in which Python runs. tests/bench/README.md, Threads. */
    SPIN_NS = 50000,
    LOOKS_EACH_TIME = 16,
};

/* Unclaimed tasks of a job that tells workers to end. */
#define LEAVE UINT32_MAX

/* The caller that holds `is_taken` writes the job; workers only claim from it. `job` has the job's number
   in its upper half, so a claim that comes too late fails, and the tasks that nobody has claimed below. */
static struct {
    _Alignas(64) _Atomic uint64_t job;
    _Atomic(Task) task;
    _Atomic(void *) context;
    _Atomic uint32_t count;
    /* Tasks that have not ended; the caller may sleep on it. */
    _Alignas(64) atomic_uint unfinished;
    atomic_int caller_sleeps;
    /* Changes with each job; workers sleep on it. */
    _Alignas(64) atomic_uint posted;
    atomic_int sleepers;
    _Alignas(64) atomic_flag is_taken;
    atomic_int num_threads;
    int is_started, num_workers;
    pthread_t workers[MAX_THREADS - 1];
} pool = {.is_taken = ATOMIC_FLAG_INIT};

static uint32_t unclaimed(uint64_t job)
{
    return (uint32_t)job;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int has_job(void)
{
    return unclaimed(atomic_load_explicit(&pool.job, memory_order_acquire)) != 0;
}

static int has_ended(void)
{
    return atomic_load_explicit(&pool.unfinished, memory_order_acquire) == 0;
}

/* Look for a while whether something holds. Returns whether it does. */
static int spin(int (*holds)(void))
{
    const int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < LOOKS_EACH_TIME; i++) {
            if (holds())
                return 1;
            relax();
        }
    } while (now_ns() < end);
    return 0;
}

/* Claim tasks and run them until none is left. Returns how many were run: the job cannot end, nor
   another begin, before they have been taken off `unfinished`. */
static uint32_t run_tasks(int thread)
{
    const uint32_t claims = CLAIMS_EACH * (uint32_t)num_threads();
    uint32_t ran = 0;
    uint64_t job = atomic_load_explicit(&pool.job, memory_order_acquire);
    while (unclaimed(job) != 0 && unclaimed(job) != LEAVE) {
        /* If these are of a later job, the exchange fails. */
        const Task task = atomic_load_explicit(&pool.task, memory_order_relaxed);
        void *context = atomic_load_explicit(&pool.context, memory_order_relaxed);
        const uint32_t count = atomic_load_explicit(&pool.count, memory_order_relaxed);
        const uint32_t share = unclaimed(job) / claims, claimed = share > 0 ? share : 1;
        if (!atomic_compare_exchange_weak_explicit(&pool.job, &job, job - claimed,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        const int64_t first = (int64_t)count - unclaimed(job);
        for (int64_t i = first; i < first + claimed; i++)
            task(context, i, thread);
        ran += claimed;
        job = atomic_load_explicit(&pool.job, memory_order_acquire);
    }
    return ran;
}

static void post(uint32_t tasks, int wanted)
{
    const uint64_t number = (atomic_load_explicit(&pool.job, memory_order_relaxed) >> 32) + 1;
    atomic_store(&pool.job, number << 32 | tasks);
    atomic_store(&pool.posted, (unsigned)number);
    if (atomic_load(&pool.sleepers) > 0)
        futex_wake(&pool.posted, wanted);
}

/* A worker that is about to sleep says so and then looks once more; post() does it the other way round,
   so one of the two sees the other. */
static void await_job(void)
{
    if (spin(has_job))
        return;
    atomic_fetch_add(&pool.sleepers, 1);
    const unsigned seen = atomic_load(&pool.posted);
    if (unclaimed(atomic_load(&pool.job)) == 0)
        futex_wait(&pool.posted, seen);
    atomic_fetch_sub(&pool.sleepers, 1);
}

static void await_end(void)
{
    unsigned seen;
    if (spin(has_ended))
        return;
    atomic_store(&pool.caller_sleeps, 1);
    while ((seen = atomic_load(&pool.unfinished)) != 0)
        futex_wait(&pool.unfinished, seen);
    atomic_store(&pool.caller_sleeps, 0);
}

static void *work(void *place)
{
    const int thread = (int)(intptr_t)place;
    for (;;) {
        const uint32_t ran = run_tasks(thread);
        if (ran > 0 && atomic_fetch_sub(&pool.unfinished, ran) == ran
            && atomic_load(&pool.caller_sleeps))
            futex_wake(&pool.unfinished, 1);
        if (unclaimed(atomic_load_explicit(&pool.job, memory_order_acquire)) == LEAVE)
            return NULL;
        await_job();
    }
}

/* A child has the thread that forked alone, and whatever the others were in the middle of. */
static void forget_workers(void)
{
    atomic_store(&pool.job, atomic_load(&pool.job) >> 32 << 32);
    atomic_store(&pool.caller_sleeps, 0);
    atomic_store(&pool.sleepers, 0);
    pool.is_started = pool.num_workers = 0;
    futex_reset();
    atomic_flag_clear(&pool.is_taken);
}

/* Signals are for the program's own threads, but for those that an instruction raises. */
static void block_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

/* Where the system gives fewer threads, or none, those that are there run the tasks. */
static void start_workers(void)
{
    static int is_registered;
    pthread_attr_t attributes;
    sigset_t before;
    if (!is_registered)
        is_registered = pthread_atfork(NULL, NULL, forget_workers) == 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    block_signals(&before);
    for (int thread = 1; thread < num_threads(); thread++) {
        pthread_t *worker = pool.workers + pool.num_workers;
        if (pthread_create(worker, &attributes, work, (void *)(intptr_t)thread) != 0)
            break;
        pool.num_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    pool.is_started = 1;
}

static void end_workers(void)
{
    post(LEAVE, MAX_THREADS);
    while (pool.num_workers > 0)
        pthread_join(pool.workers[--pool.num_workers], NULL);
    post(0, 0);
    pool.is_started = 0;
}

static void run_job(uint32_t count, Task task, void *context)
{
    if (!pool.is_started)
        start_workers();
    atomic_store_explicit(&pool.task, task, memory_order_relaxed);
    atomic_store_explicit(&pool.context, context, memory_order_relaxed);
    atomic_store_explicit(&pool.count, count, memory_order_relaxed);
    atomic_store_explicit(&pool.unfinished, count, memory_order_relaxed);
    post(count, (int)count - 1);
    const uint32_t ran = run_tasks(0);
    if (atomic_fetch_sub(&pool.unfinished, ran) != ran)
        await_end();
}

void parallel_for_if(int pays, int64_t count, Task task, void *context)
{
    if (pays && count > 1 && count <= INT32_MAX && num_threads() > 1
        && !atomic_flag_test_and_set_explicit(&pool.is_taken, memory_order_acquire)) {
        run_job((uint32_t)count, task, context);
        atomic_flag_clear_explicit(&pool.is_taken, memory_order_release);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        task(context, i, 0);
}

void parallel_for(int64_t count, Task task, void *context)
{
    parallel_for_if(1, count, task, context);
}

typedef struct {
    const Job *jobs;
    int64_t num_jobs;
} Jobs;

static void run_task_of_jobs(void *context, int64_t index, int thread)
{
    const Jobs *all = context;
    int64_t low = 0, high = all->num_jobs;
    /* The last job that begins at the task or before it; one without tasks is none of those. */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (all->jobs[middle].first <= index)
            low = middle;
        else
            high = middle;
    }
    const Job *job = all->jobs + low;
    job->task(job->context, index - job->first, thread);
}

void parallel_for_jobs(int pays, Job *jobs, int64_t num_jobs)
{
    int64_t count = 0;
    for (int64_t i = 0; i < num_jobs; i++) {
        jobs[i].first = count;
        count += jobs[i].count;
    }
    Jobs all = {jobs, num_jobs};
    parallel_for_if(pays, count, run_task_of_jobs, &all);
}

static int num_processors(void)
{
#ifdef __linux__
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        return CPU_COUNT(&allowed);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static int within_limits(int count)
{
    return count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : count;
}

int num_threads(void)
{
    int count = atomic_load_explicit(&pool.num_threads, memory_order_relaxed);
    if (count == 0) {
        const int at_first = within_limits(num_processors());
        if (atomic_compare_exchange_strong(&pool.num_threads, &count, at_first))
            count = at_first;
    }
    return count;
}

void set_num_threads(int count)
{
    while (atomic_flag_test_and_set_explicit(&pool.is_taken, memory_order_acquire))
        sched_yield();
    if (within_limits(count) != num_threads()) {
        end_workers();
        atomic_store_explicit(&pool.num_threads, within_limits(count), memory_order_relaxed);
    }
    atomic_flag_clear_explicit(&pool.is_taken, memory_order_release);
}
