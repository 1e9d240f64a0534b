/* Stands between a test's child process and the system (LD_PRELOAD). It counts the calls that
 * change files, and makes one of them fail, or kills the process before, after or during it.
 * Unlike strace, it counts over all threads together, and costs nothing.
 *
 *   SHIM_CALLS   which calls count: ",pwrite,fsync,", with a comma on each side of a name
 *   SHIM_AT      which of them it hits, from 1; 0 or absent: none
 *   SHIM_DO      before, behind, amid: SIGKILL there ("amid" writes half); short: half is written,
 *                and the call returns that; a number: the call does nothing, and fails with
 *                that errno
 *   SHIM_CLOCK   seconds that are added to the wall clock; so are those in `shim_clock`, which the
 *                process itself may change
 *
 * When a call fails, this prints "said fault" with the file. When a regular file is synced again
 * after a failed sync, it prints "said retried".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_long counted;
static atomic_ulong failed_file;
atomic_long shim_clock;

static void say(const char *line) {
    if (write(1, line, strlen(line)) < 0) abort();
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Returns the fault that hits this call, if one does. */
static const char *fault(const char *name) {
    const char *calls = getenv("SHIM_CALLS"), *at = getenv("SHIM_AT");
    if (!calls || !at || !strstr(calls, name)) return NULL;
    if (atomic_fetch_add(&counted, 1) + 1 != atol(at)) return NULL;
    const char *what = getenv("SHIM_DO");
    if (!strcmp(what, "before")) die();
    return what;
}

/* Whether the call fails. Then it sets errno, and tells the parent the file. */
static int fails(const char *what, int file, const char *path) {
    if (!what || what[0] < '0' || what[0] > '9') return 0;
    char link[64], name[PATH_MAX] = "?";
    if (!path) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, name, sizeof name - 1);
        if (length > 0) name[length] = 0;
        path = name;
    }
    say("said fault ");
    say(path);
    say("\n");
    errno = atoi(what);
    return 1;
}

static long behind(const char *what, long result) {
    if (what && (!strcmp(what, "behind") || !strcmp(what, "amid"))) die();
    return result;
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t position) {
    const char *what = fault(",pwrite,");
    if (fails(what, file, NULL)) return -1;
    if (what && !strcmp(what, "short")) say("said short\n");
    if (what && (!strcmp(what, "amid") || !strcmp(what, "short"))) size = (size + 1) / 2;
    return behind(what, syscall(SYS_pwrite64, file, bytes, size, position));
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t position) {
    return pwrite64(file, bytes, size, position);
}

/* Which regular file it is; 0 where it is none. The number of a file that is gone is soon given to
 * another one, and not every removal passes here, so its generation belongs to it, or where the file
 * system tells of none, the time of its birth, which may be the same within a few milliseconds. */
static unsigned long identity(int file) {
    struct statx status;
    unsigned mask = STATX_TYPE | STATX_INO | STATX_BTIME;
    if (syscall(SYS_statx, file, "", AT_EMPTY_PATH, mask, &status) || !S_ISREG(status.stx_mode))
        return 0;
    int generation;
    unsigned long which = ioctl(file, FS_IOC_GETVERSION, &generation) == 0
        ? (unsigned)generation
        : status.stx_btime.tv_sec * 1000000000ul + status.stx_btime.tv_nsec;
    return status.stx_ino ^ which << 24;
}

static int sync_file(const char *name, long number, int file) {
    const char *what = fault(name);
    unsigned long this = identity(file);
    if (this && this == atomic_load(&failed_file)) say("said retried\n");
    if (fails(what, file, NULL)) {
        int error = errno;
        atomic_store(&failed_file, this);
        errno = error;
        return -1;
    }
    return behind(what, syscall(number, file));
}

int fsync(int file) {
    return sync_file(",fsync,", SYS_fsync, file);
}

int fdatasync(int file) {
    return sync_file(",fdatasync,", SYS_fdatasync, file);
}

int ftruncate64(int file, off64_t length) {
    const char *what = fault(",ftruncate,");
    return fails(what, file, NULL) ? -1 : behind(what, syscall(SYS_ftruncate, file, length));
}

int unlink(const char *path) {
    const char *what = fault(",unlink,");
    if (fails(what, -1, path)) return -1;
    return behind(what, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int rename(const char *from, const char *to) {
    const char *what = fault(",rename,");
    if (fails(what, -1, from)) return -1;
    return behind(what, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int mkdir(const char *path, mode_t mode) {
    const char *what = fault(",mkdir,");
    return fails(what, -1, path) ? -1 : behind(what, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    const char *offset = getenv("SHIM_CLOCK");
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += (offset ? atol(offset) : 0) + atomic_load(&shim_clock);
    return result;
}
