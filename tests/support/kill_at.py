"""A process killed between two of its own system calls on a file, or in the middle of one: for the tests of what a dead drp leaves.

A small library, compiled here and preloaded, counts the calls on files with a certain end to their names; at the nth it does as much of the call
as it is told and then sends its own process SIGKILL. drp knows nothing of it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

WHOLE = -1
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int passed;
static long done;

static int here(const char *call, const char *path) {
    char wanted[32], end[128];
    int nth;
    const char *text = getenv("KILL_AT");
    size_t n = strlen(path);
    if (text == NULL || sscanf(text, "%31s %127s %d %ld", wanted, end, &nth, &done) != 4 || strcmp(call, wanted))
        return 0;
    return n >= strlen(end) && !strcmp(path + n - strlen(end), end) && ++passed == nth;
}

static int here_fd(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    return here(call, path);
}

static void end(void) {
    kill(getpid(), SIGKILL);
    pause();
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    if (here_fd("writev", fd)) {
        if (done < 0)
            real(fd, parts, n);
        for (int i = 0; i < n && done > 0; i++) {
            size_t some = parts[i].iov_len < (size_t)done ? parts[i].iov_len : (size_t)done;
            done -= write(fd, parts[i].iov_base, some);
        }
        end();
    }
    return real(fd, parts, n);
}

int fchmod(int fd, mode_t mode) {
    int (*real)(int, mode_t) = dlsym(RTLD_NEXT, "fchmod");
    if (here_fd("fchmod", fd)) {
        if (done)
            real(fd, mode);
        end();
    }
    return real(fd, mode);
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    if (here("rename", from)) {
        if (done)
            real(from, to);
        end();
    }
    return real(from, to);
}
"""


@dataclass(frozen=True)
class KillAt:
    """The `nth` call (from 1) of `call` on a file whose name ends in `file`, with `done` bytes of it done, or WHOLE of it."""

    call: str
    file: str
    nth: int
    done: int = 0

    def environment(self, library: Path) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "KILL_AT": f"{self.call} {self.file} {self.nth} {self.done}"}


def compile_library(folder: Path) -> Path:
    """Compile the library into `folder`; whoever installed drp from source has the compiler."""
    library = folder / "kill_at.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"],
        input=SOURCE,
        text=True,
        check=True,
        timeout=60,
    )
    return library
