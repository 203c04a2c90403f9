/* Atomics, futexes and clocks: what Cython has no words for. All inline, no state. */
#ifndef DRP_SYS_H
#define DRP_SYS_H
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t sys_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint32_t sys_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void sys_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void sys_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint32_t sys_add32(uint32_t *p, uint32_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline void sys_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Ask for the first lines of something that is read next; any address will do. */
static inline void sys_prefetch(const void *p)
{
    for (int i = 0; i < 256; i += 64)
        __builtin_prefetch((const char *)p + i);
}

static inline void sys_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* malloc, to be given back with free(). Large blocks ask for huge pages: taking 100 MB page by page costs far longer than filling it. */
static inline void *sys_malloc(size_t size)
{
    const size_t huge = (size_t)2 << 20;
    void *p = NULL;
    if (size < 2 * huge || posix_memalign(&p, huge, size) != 0)
        return malloc(size);
    madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static inline uint64_t sys_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Sleep while *word == seen, at most timeout_ns. Returns 0 when woken or changed, ETIMEDOUT or EINTR otherwise. */
static inline int sys_futex_wait(uint32_t *word, uint32_t seen, uint64_t timeout_ns)
{
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0) == 0)
        return 0;
    return errno == EAGAIN ? 0 : errno;
}

static inline void sys_futex_wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, 64, NULL, NULL, 0); }

static inline void sys_sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}
#endif
