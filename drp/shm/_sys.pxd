"""Atomics, futexes and clocks of _sys.h, for cimport."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "_sys.h" nogil:
    uint64_t sys_load64(const uint64_t *p)
    uint32_t sys_load32(const uint32_t *p)
    void sys_store64(uint64_t *p, uint64_t v)
    void sys_store32(uint32_t *p, uint32_t v)
    uint32_t sys_add32(uint32_t *p, uint32_t v)
    void sys_fence()
    void sys_prefetch(const void *p)
    void sys_relax()
    void *sys_malloc(size_t size)
    uint64_t sys_now_ns()
    int sys_futex_wait(uint32_t *word, uint32_t seen, uint64_t timeout_ns)
    void sys_futex_wake(uint32_t *word)
    void sys_sleep_ns(uint64_t ns)
