/* Preloaded: a full file system looks like a disk quota that is used up. Calls fail with EDQUOT where they fail with ENOSPC, and statvfs, which
 * knows of no quota, says that there is room. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int as_quota(int error) { return error == ENOSPC ? EDQUOT : error; }

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t to) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    ssize_t done = real(fd, data, size, to);
    if (done < 0) errno = as_quota(errno);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t to) { return pwrite64(fd, data, size, to); }

int posix_fallocate64(int fd, off64_t from, off64_t size) {
    REAL("posix_fallocate64", int, int, off64_t, off64_t);
    return as_quota(real(fd, from, size));
}
int posix_fallocate(int fd, off_t from, off_t size) { return posix_fallocate64(fd, from, size); }

int statvfs64(const char *path, struct statvfs64 *found) {
    REAL("statvfs64", int, const char *, struct statvfs64 *);
    int result = real(path, found);
    if (!result) found->f_bavail = found->f_bfree = found->f_blocks = 1 << 30;
    return result;
}
int statvfs(const char *path, struct statvfs *found) { return statvfs64(path, (struct statvfs64 *)found); }
