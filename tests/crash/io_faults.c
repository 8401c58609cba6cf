/* An LD_PRELOAD library between a program and its disk: counts each change of a file or folder below one folder, and at change number N
 * kills the process, tears a write, or lets the call fail; or writes all changes to a log, from which a power cut's images can be made.
 *
 * Nothing happens before `faults_arm`. Calls are counted from 1, under one lock, which is held during the call: numbers are the order. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, KILL, KILL_AFTER, TORN, FAIL, FAIL_SYNC, SHORT };
enum { GO, REFUSED, HALF };

#define FDS 65536
/* Kinds of changes: w write, t truncate, c create, m mkdir, d rmdir, u unlink, y symlink, l link, r rename, x mode and times, s sync of one
 * file or folder, S sync of the file system; in the log also n, a note of the program. */
#define TAKES_ROOM "wcmyl"

static char folder[PATH_MAX];
static size_t folder_length;
static int what, failing, for_ever, log_fd = -1, armed;
static long at, count, retried;
static char broken[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct record {
    char kind;
    char failed;
    uint16_t path_length;
    uint32_t more_length;
    uint64_t number, inode, offset;
} __attribute__((packed));

/* --- what the tests call ------------------------------------------------------------------------------------------------------- */

void faults_arm(const char *below, int what_, long at_, int error, int for_ever_, int log) {
    snprintf(folder, sizeof folder, "%s", below);
    folder_length = strlen(folder);
    what = what_, at = at_, failing = error, for_ever = for_ever_, log_fd = log, count = 0, retried = 0;
    memset(broken, 0, sizeof broken);
    armed = 1;
}

void faults_disarm(void) { armed = 0; }
long faults_count(void) { return count; }
/* Syncs of a file whose sync had failed before, through the same descriptor. */
long faults_retried(void) { return retried; }

/* --- the log ------------------------------------------------------------------------------------------------------------------- */

static void put(const void *bytes, size_t size) {
    const char *from = bytes;
    while (size) {
        ssize_t done = syscall(SYS_write, log_fd, from, size);
        if (done <= 0) abort();
        from += done, size -= done;
    }
}

static void note(char kind, int failed, uint64_t inode, uint64_t offset, const char *path, const void *more, size_t size) {
    if (log_fd < 0) return;
    size_t length = path ? strlen(path) : 0;
    struct record record = {kind, (char)failed, (uint16_t)length, (uint32_t)size, (uint64_t)count, inode, offset};
    put(&record, sizeof record);
    if (length) put(path, length);
    if (size) put(more, size);
}

void faults_note(const char *text, size_t size) {
    if (!armed) return;
    pthread_mutex_lock(&lock);
    note('n', 0, 0, 0, NULL, text, size);
    pthread_mutex_unlock(&lock);
}

/* --- where a call goes --------------------------------------------------------------------------------------------------------- */

static int below(const char *path) {
    return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

static int of_fd(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int of_name(int dir, const char *name, char *path) {
    char start[PATH_MAX] = "";
    if (name[0] != '/' && dir == AT_FDCWD && !getcwd(start, sizeof start)) return 0;
    if (name[0] != '/' && dir != AT_FDCWD && !of_fd(dir, start)) return 0;
    size_t first = strlen(start), second = strlen(name);
    if (first + second + 2 > PATH_MAX) return 0;
    memcpy(path, start, first);
    if (first) path[first++] = '/';
    memcpy(path + first, name, second + 1);
    return 1;
}

static uint64_t inode_of_fd(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

static uint64_t inode_at(const char *path) {
    struct stat found;
    return lstat(path, &found) ? 0 : found.st_ino;
}

/* --- before and after a call --------------------------------------------------------------------------------------------------- */

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts the call and takes the lock; `finish` gives it back. */
static int begin(char kind) {
    int saved = errno;
    pthread_mutex_lock(&lock);
    count++;
    errno = saved;
    if (what == NOTHING || (for_ever ? count < at : count != at)) return GO;
    if (what == KILL) die();
    if ((what == TORN || what == SHORT) && kind == 'w') return HALF;
    int fails = what == FAIL && kind != 'x' && ((failing != ENOSPC && failing != EDQUOT) || strchr(TAKES_ROOM, kind)); /* mode and times are kept where they can be */
    if (what == FAIL_SYNC) fails = kind == 's' || kind == 'S';
    if (!fails) return GO;
    errno = failing;
    return REFUSED;
}

static void finish(void) {
    int saved = errno;
    if (what == KILL_AFTER && count == at) die();
    pthread_mutex_unlock(&lock);
    errno = saved;
}

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define KEEP_ERRNO(statement) do { int kept = errno; statement; errno = kept; } while (0)

/* --- data ---------------------------------------------------------------------------------------------------------------------- */

static int counts(int fd, char *path) { return armed && of_fd(fd, path) && below(path); }

static void note_written(int fd, const char *path, off_t offset, ssize_t size) {
    if (log_fd < 0 || size <= 0) return;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - size;
    char *data = malloc(size);
    if (!data) abort();
    ssize_t got = syscall(SYS_pread64, fd, data, (size_t)size, offset);
    if (got != size) { /* opened for writing only, as no database is: to open one and to close it again would drop its locks */
        int again = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
        got = syscall(SYS_pread64, again, data, (size_t)size, offset);
        syscall(SYS_close, again);
    }
    if (got != size) abort();
    note('w', 0, inode_of_fd(fd), offset, path, data, size);
    free(data);
}

#define HERE (-1)
/* Where the descriptor stands. */

#define DATA_CALL(offset_, size_, call_, half_) \
    char path[PATH_MAX]; \
    if (!counts(fd, path)) return call_; \
    int how = begin('w'); \
    off_t offset = offset_; \
    ssize_t done = -1; \
    if (how != REFUSED) { \
        if (how == HALF && (size_) > 1) { done = half_; } else { done = call_; } \
        if (how == HALF && what == TORN) die(); \
        KEEP_ERRNO(note_written(fd, path, offset, done)); \
    } \
    finish(); \
    return done

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t to) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    DATA_CALL(to, size, real(fd, data, size, to), real(fd, data, size / 2, to));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t to) { return pwrite64(fd, data, size, to); }

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    DATA_CALL(HERE, size, real(fd, data, size), real(fd, data, size / 2));
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    DATA_CALL(HERE, number, real(fd, parts, number), real(fd, parts, number / 2));
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int number, off64_t to, int flags) {
    REAL("pwritev64v2", ssize_t, int, const struct iovec *, int, off64_t, int);
    DATA_CALL(to, number, real(fd, parts, number, to, flags), real(fd, parts, number / 2, to, flags));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t to) {
    REAL("pwritev64", ssize_t, int, const struct iovec *, int, off64_t);
    DATA_CALL(to, number, real(fd, parts, number, to), real(fd, parts, number / 2, to));
}

ssize_t copy_file_range(int in, off64_t *from, int fd, off64_t *to, size_t size, unsigned flags) {
    REAL("copy_file_range", ssize_t, int, off64_t *, int, off64_t *, size_t, unsigned);
    DATA_CALL(to ? *to : HERE, size, real(in, from, fd, to, size, flags), real(in, from, fd, to, size / 2, flags));
}

ssize_t sendfile64(int fd, int in, off64_t *from, size_t size) {
    REAL("sendfile64", ssize_t, int, int, off64_t *, size_t);
    DATA_CALL(HERE, size, real(fd, in, from, size), real(fd, in, from, size / 2));
}
ssize_t sendfile(int fd, int in, off_t *from, size_t size) { return sendfile64(fd, in, from, size); }

/* --- calls that are done or not ------------------------------------------------------------------------------------------------ */

#define WHOLE_CALL(kind_, counts_, call_, note_) \
    char path[PATH_MAX]; \
    if (!(counts_)) return call_; \
    int result = -1; \
    if (begin(kind_) != REFUSED) { \
        result = call_; \
        if (!result) KEEP_ERRNO(note_); \
    } \
    finish(); \
    return result

int ftruncate64(int fd, off64_t size) {
    REAL("ftruncate64", int, int, off64_t);
    WHOLE_CALL('t', counts(fd, path), real(fd, size), note('t', 0, inode_of_fd(fd), size, path, NULL, 0));
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_call(int fd, char kind, int (*real)(int)) {
    char path[PATH_MAX];
    if (!counts(fd, path)) return real(fd);
    int result = -1;
    if (kind == 's' && fd < FDS && broken[fd]) retried++;
    if (begin(kind) != REFUSED) result = real(fd);
    if (kind == 's' && fd < FDS && result) broken[fd] = 1;
    KEEP_ERRNO(note(kind, result != 0, inode_of_fd(fd), 0, path, NULL, 0));
    finish();
    return result;
}

int fsync(int fd) {
    REAL("fsync", int, int);
    return sync_call(fd, 's', real);
}
int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return sync_call(fd, 's', real);
}
int syncfs(int fd) {
    REAL("syncfs", int, int);
    return sync_call(fd, 'S', real);
}

int close(int fd) {
    REAL("close", int, int);
    if (armed && fd >= 0 && fd < FDS) broken[fd] = 0;
    return real(fd);
}

/* --- names --------------------------------------------------------------------------------------------------------------------- */

#define NAMED(dir, name) (armed && of_name(dir, name, path) && below(path))

static int open_call(int dir, const char *name, int flags, mode_t mode) {
    REAL("openat64", int, int, const char *, int, ...);
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !NAMED(dir, name)) return real(dir, name, flags, mode);
    uint64_t before = inode_at(path);
    if (before && !(flags & O_TRUNC)) return real(dir, name, flags, mode);
    int fd = -1;
    if (begin(before ? 't' : 'c') != REFUSED) {
        fd = real(dir, name, flags, mode);
        if (fd >= 0) KEEP_ERRNO(note(before ? 't' : 'c', 0, inode_of_fd(fd), 0, path, NULL, 0));
    }
    finish();
    return fd;
}

#define OPEN_MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }

int open64(const char *name, int flags, ...) { OPEN_MODE(flags) return open_call(AT_FDCWD, name, flags, mode); }
int open(const char *name, int flags, ...) { OPEN_MODE(flags) return open_call(AT_FDCWD, name, flags, mode); }
int openat64(int dir, const char *name, int flags, ...) { OPEN_MODE(flags) return open_call(dir, name, flags, mode); }
int openat(int dir, const char *name, int flags, ...) { OPEN_MODE(flags) return open_call(dir, name, flags, mode); }

int mkdirat(int dir, const char *name, mode_t mode) {
    REAL("mkdirat", int, int, const char *, mode_t);
    WHOLE_CALL('m', NAMED(dir, name), real(dir, name, mode), note('m', 0, inode_at(path), 0, path, NULL, 0));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int dir, const char *name, int flags) {
    REAL("unlinkat", int, int, const char *, int);
    char kind = flags & AT_REMOVEDIR ? 'd' : 'u';
    char gone[PATH_MAX];
    if (!armed || !of_name(dir, name, gone) || !below(gone) || !inode_at(gone)) return real(dir, name, flags); /* no change: not counted */
    WHOLE_CALL(kind, NAMED(dir, name), real(dir, name, flags), note(kind, 0, 0, 0, path, NULL, 0));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int symlinkat(const char *text, int dir, const char *name) {
    REAL("symlinkat", int, const char *, int, const char *);
    WHOLE_CALL('y', NAMED(dir, name), real(text, dir, name), note('y', 0, inode_at(path), 0, path, text, strlen(text)));
}
int symlink(const char *text, const char *name) { return symlinkat(text, AT_FDCWD, name); }

int linkat(int old_dir, const char *old, int dir, const char *name, int flags) {
    REAL("linkat", int, int, const char *, int, const char *, int);
    WHOLE_CALL('l', NAMED(dir, name), real(old_dir, old, dir, name, flags), note('l', 0, inode_at(path), 0, path, NULL, 0));
}
int link(const char *old, const char *name) { return linkat(AT_FDCWD, old, AT_FDCWD, name, 0); }

int renameat2(int old_dir, const char *old, int dir, const char *name, unsigned flags) {
    REAL("renameat2", int, int, const char *, int, const char *, unsigned);
    char from[PATH_MAX] = "";
    if (armed) of_name(old_dir, old, from);
    WHOLE_CALL('r', NAMED(dir, name), real(old_dir, old, dir, name, flags), note('r', 0, 0, 0, path, from, strlen(from)));
}
int renameat(int old_dir, const char *old, int dir, const char *name) { return renameat2(old_dir, old, dir, name, 0); }
int rename(const char *old, const char *name) { return renameat2(AT_FDCWD, old, AT_FDCWD, name, 0); }

/* --- metadata ------------------------------------------------------------------------------------------------------------------ */

static void note_status(const char *path) {
    struct stat found;
    if (log_fd < 0 || lstat(path, &found)) return;
    int64_t values[2] = {found.st_mode & 07777, (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec};
    note('x', 0, found.st_ino, 0, path, values, sizeof values);
}

int fchmod(int fd, mode_t mode) {
    REAL("fchmod", int, int, mode_t);
    WHOLE_CALL('x', counts(fd, path), real(fd, mode), note_status(path));
}
int futimens(int fd, const struct timespec times[2]) {
    REAL("futimens", int, int, const struct timespec *);
    WHOLE_CALL('x', counts(fd, path), real(fd, times), note_status(path));
}
int utimensat(int dir, const char *name, const struct timespec times[2], int flags) {
    REAL("utimensat", int, int, const char *, const struct timespec *, int);
    WHOLE_CALL('x', NAMED(dir, name), real(dir, name, times, flags), note_status(path));
}
