/* The threads of the kernels. Tasks are claimed, not handed out: a caller computes what no other thread
   has begun and waits for begun tasks only, so a thread that the system does not run delays nobody. */
#ifndef UNISONO_THREADS_H
#define UNISONO_THREADS_H

#include <stdint.h>

/* One task. `thread`, below num_threads(), is of one task at a time within a call: scratch that belongs
   to the call may be indexed by it. */
typedef void (*Task)(void *context, int64_t index, int thread);

/* Run task(context, i, thread) for each i in [0, count), a thread's own in ascending order, and return
   when all have ended; what they wrote is visible then. They run on this thread alone where there is one task or one thread,
   and where the others are taken: in a call from inside a task, or beside another call. */
void parallel_for(int64_t count, Task task, void *context);

/* The same on this thread alone unless `pays`: waking a thread costs microseconds. */
void parallel_for_if(int pays, int64_t count, Task task, void *context);

/* The tasks of several callers, which run as one call's: those of the first, then of the next. `first` is
   written by parallel_for_jobs(). */
typedef struct {
    int64_t count;
    Task task;
    void *context;
    int64_t first;
} Job;

void parallel_for_jobs(int pays, Job *jobs, int64_t num_jobs);

/* Return how many threads share tasks, the caller among them: at first one for each processor that
   this process may run on. */
int num_threads(void);

/* Have so many threads share tasks, from 1 to 256; they start with the next call that has work for them.
   Waits for a call that is running. Not from inside a task, nor between a caller's num_threads() and
   its parallel_for(). */
void set_num_threads(int count);

#endif
