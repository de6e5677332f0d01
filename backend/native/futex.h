/* Sleep until a word changes: a futex on Linux, a condition variable for all words elsewhere. */
#ifndef UNISONO_FUTEX_H
#define UNISONO_FUTEX_H

#include <stdatomic.h>

#if defined(__linux__) && !defined(WITHOUT_FUTEX)

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sleep if the word still is `seen`; may return early. */
static inline void futex_wait(atomic_uint *word, unsigned seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

/* Wake up to `count` threads that sleep on the word, which has changed. */
static inline void futex_wake(atomic_uint *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Make it usable in the child of a fork. */
static inline void futex_reset(void)
{
}

#else

#include <pthread.h>

static pthread_mutex_t futex_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t futex_changed = PTHREAD_COND_INITIALIZER;

static inline void futex_wait(atomic_uint *word, unsigned seen)
{
    pthread_mutex_lock(&futex_mutex);
    if (atomic_load(word) == seen)
        pthread_cond_wait(&futex_changed, &futex_mutex);
    pthread_mutex_unlock(&futex_mutex);
}

static inline void futex_wake(atomic_uint *word, int count)
{
    (void)word;
    (void)count;
    pthread_mutex_lock(&futex_mutex);
    pthread_cond_broadcast(&futex_changed);
    pthread_mutex_unlock(&futex_mutex);
}

static inline void futex_reset(void)
{
    pthread_mutex_init(&futex_mutex, NULL);
    pthread_cond_init(&futex_changed, NULL);
}

#endif

#endif
