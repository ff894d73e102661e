/*
 * Put before the C library with LD_PRELOAD, this stands between one process and its disk and clock:
 *
 * - Everything that is done to files below one folder is written to a journal, with what it overwrote, before it is done. A test that has
 *   killed the process takes back from the journal what no fsync had made durable: that is what a power cut leaves behind.
 * - Told so, writes below that folder fail as on a full disk or on one that became read-only, and syncs do nothing and say they did.
 * - The wall clock, and no other, is off by a number of nanoseconds.
 *
 * What it is told stands in a small file that is mapped, so that a test can change it while the process runs. What it never does: change
 * what the process reads. It knows the calls that SQLite and Rust's library make; a file that is mapped for writing (SQLite's -shm, which
 * holds nothing that must last) is not watched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The library's own function of this name. */
#define REAL(name)                                                         \
    ({                                                                     \
        static __typeof__(&name) found;                                    \
        if (!found) found = (__typeof__(&name))real(#name);                \
        found;                                                             \
    })
#define MOST_FDS 65536

/* The same layout is in preload.rs. */
struct told {
    int64_t clock;    /* added to the wall clock, ns */
    int32_t full;     /* writes answer ENOSPC */
    int32_t readonly; /* writes answer EROFS */
    int32_t lie;      /* syncs do nothing */
    int32_t slow;     /* a sync takes so many µs */
};

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, SYNC_FOLDER, UNLINK };

/* The same layout is in preload/power.rs. */
struct record {
    uint32_t magic;
    uint32_t kind;
    uint64_t number;
    uint64_t offset;
    uint64_t old_size;
    uint32_t path_len, old_len, new_len, spare;
};

static const volatile struct told *told;
static char under[PATH_MAX], graveyard[PATH_MAX];
static size_t under_len;
static int journal = -1;
static uint64_t number;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[MOST_FDS];

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void begin(void) {
    const char *home = getenv("PENSTOCK_SHIM");
    if (!home) return;
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s/told", home);
    int fd = REAL(open)(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        void *at = mmap(NULL, sizeof(struct told), PROT_READ, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) told = at;
        REAL(close)(fd);
    }
    const char *folder = getenv("PENSTOCK_SHIM_UNDER");
    if (!folder || !realpath(folder, under)) return;
    under_len = strlen(under);
    snprintf(graveyard, sizeof graveyard, "%s/graveyard", home);
    snprintf(name, sizeof name, "%s/journal", home);
    journal = REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) abort();
}

static int is_below(const char *path) {
    if (under_len == 0 || strncmp(path, under, under_len) != 0 || path[under_len] != '/') return 0;
    size_t len = strlen(path);
    return len < 4 || strcmp(path + len - 4, "-shm") != 0;
}

/* Where a name leads, for a file that may not be there yet. */
static int resolve(const char *path, char *out) {
    char copy[PATH_MAX], folder[PATH_MAX];
    if (under_len == 0 || strlen(path) >= sizeof copy - 3) return 0;
    strcpy(copy, path);
    char *slash = strrchr(copy, '/');
    const char *base = slash ? slash + 1 : copy;
    if (slash) *slash = 0;
    const char *parent = slash ? (slash == copy ? "/" : copy) : ".";
    if (!realpath(parent, folder)) return 0;
    int len = snprintf(out, PATH_MAX, "%s/%s", folder, base);
    if (len < 0 || len >= PATH_MAX) return 0;
    return is_below(out);
}

static const char *watched(int fd) {
    return fd >= 0 && fd < MOST_FDS ? paths[fd] : NULL;
}

/* One record, in one write: a kill leaves it whole, or torn at the journal's end, where it is not counted. */
static uint64_t note(enum kind kind, const char *path, uint64_t offset, uint64_t old_size, const void *old,
                     size_t old_len, const struct iovec *new, int pieces, size_t new_len, uint64_t upto) {
    struct record head = {0x50575253, kind, upto ? upto : ++number, offset, old_size, (uint32_t)strlen(path),
                          (uint32_t)old_len, (uint32_t)new_len, 0};
    struct iovec parts[16 + 3];
    int count = 0;
    parts[count++] = (struct iovec){&head, sizeof head};
    parts[count++] = (struct iovec){(void *)path, head.path_len};
    if (old_len) parts[count++] = (struct iovec){(void *)old, old_len};
    for (int i = 0; i < pieces && i < 16; i++) parts[count++] = new[i];
    size_t all = sizeof head + head.path_len + old_len + new_len;
    if (REAL(writev)(journal, parts, count) != (ssize_t)all) abort();
    return head.number;
}

/* Reads what is about to be overwritten. By the descriptor itself if it can be read: closing another one of the same file would take
 * away the locks that SQLite holds. */
static char *reads(int fd, const char *path, size_t len, off_t offset, size_t *got) {
    char *old = malloc(len + 1);
    if (!old) abort();
    ssize_t done = pread(fd, old, len, offset);
    if (done < 0 && errno == EBADF) {
        int other = REAL(open)(path, O_RDONLY | O_CLOEXEC);
        done = pread(other, old, len, offset);
        REAL(close)(other);
    }
    if (done < 0) abort();
    *got = (size_t)done;
    return old;
}

static void before(int fd, const char *path, uint64_t offset, const struct iovec *new, int pieces, size_t len) {
    struct stat found;
    size_t got;
    if (fstat(fd, &found) != 0) abort();
    char *old = reads(fd, path, len, (off_t)offset, &got);
    note(WRITE, path, offset, (uint64_t)found.st_size, old, got, new, pieces, len, 0);
    free(old);
}

static int refused(void) {
    if (told && told->readonly) { errno = EROFS; return 1; }
    if (told && told->full) { errno = ENOSPC; return 1; }
    return 0;
}

/* ---- opening and closing ---- */

static int opened(int fd, const char *path, int fresh) {
    if (fd < 0 || fd >= MOST_FDS) return fd;
    pthread_mutex_lock(&lock);
    free(paths[fd]);
    paths[fd] = strdup(path);
    if (fresh) note(CREATE, path, 0, 0, NULL, 0, NULL, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

static int open_it(const char *path, int flags, mode_t mode, int (*call)(const char *, int, ...)) {
    char full[PATH_MAX];
    int saved = errno;
    int ours = resolve(path, full);
    errno = saved;
    if (!ours) {
        int fd = call(path, flags, mode);
        if (fd >= 0 && fd < MOST_FDS && paths[fd]) {
            pthread_mutex_lock(&lock);
            free(paths[fd]);
            paths[fd] = NULL;
            pthread_mutex_unlock(&lock);
        }
        return fd;
    }
    if (told && told->readonly && (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) { errno = EROFS; return -1; }
    int there = access(full, F_OK) == 0;
    if (!there && (flags & O_CREAT) && refused()) return -1;
    errno = saved;
    return opened(call(path, flags, mode), full, !there && (flags & O_CREAT));
}

#define OPEN(name)                                                    \
    int name(const char *path, int flags, ...) {                      \
        mode_t mode = 0;                                              \
        if (flags & (O_CREAT | O_TMPFILE)) {                          \
            va_list more;                                             \
            va_start(more, flags);                                    \
            mode = va_arg(more, mode_t);                              \
            va_end(more);                                             \
        }                                                             \
        return open_it(path, flags, mode, REAL(name));                \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (watched(fd)) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return REAL(close)(fd);
}

/* ---- writing ---- */

#define PWRITE(name, offset_t)                                                    \
    ssize_t name(int fd, const void *data, size_t len, offset_t offset) {         \
        const char *path = watched(fd);                                           \
        if (!path) return REAL(name)(fd, data, len, offset);                      \
        if (refused()) return -1;                                                 \
        struct iovec whole = {(void *)data, len};                                 \
        pthread_mutex_lock(&lock);                                                \
        before(fd, path, (uint64_t)offset, &whole, 1, len);                           \
        ssize_t done = REAL(name)(fd, data, len, offset);                         \
        pthread_mutex_unlock(&lock);                                              \
        return done;                                                              \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    const char *path = watched(fd);
    if (!path) return REAL(writev)(fd, parts, count);
    if (refused()) return -1;
    if (count > 16) count = 16;
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    pthread_mutex_lock(&lock);
    off_t at = (fcntl(fd, F_GETFL) & O_APPEND) ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    before(fd, path, (uint64_t)at, parts, count, len);
    ssize_t done = REAL(writev)(fd, parts, count);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t len) {
    if (!watched(fd)) return REAL(write)(fd, data, len);
    struct iovec whole = {(void *)data, len};
    return writev(fd, &whole, 1);
}

#define FTRUNCATE(name, offset_t)                                                                         \
    int name(int fd, offset_t size) {                                                                     \
        const char *path = watched(fd);                                                                   \
        if (!path) return REAL(name)(fd, size);                                                           \
        struct stat found;                                                                                \
        if (fstat(fd, &found) != 0) return -1;                                                            \
        if ((size > found.st_size || (told && told->readonly)) && refused()) return -1;                   \
        size_t cut = size < found.st_size ? (size_t)(found.st_size - size) : 0;                           \
        size_t got = 0;                                                                                   \
        pthread_mutex_lock(&lock);                                                                        \
        char *old = reads(fd, path, cut, (off_t)size, &got);                                              \
        note(TRUNCATE, path, (uint64_t)size, (uint64_t)found.st_size, old, got, NULL, 0, 0, 0);           \
        int done = REAL(name)(fd, size);                                                                  \
        pthread_mutex_unlock(&lock);                                                                      \
        free(old);                                                                                        \
        return done;                                                                                      \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define FALLOCATE(name, offset_t)                                         \
    int name(int fd, offset_t offset, offset_t len) {                     \
        if (!watched(fd)) return REAL(name)(fd, offset, len);             \
        return EOPNOTSUPP;                                                \
    }
FALLOCATE(posix_fallocate, off_t)
FALLOCATE(posix_fallocate64, off64_t)

/* ---- syncing ---- */

/* What was begun before the sync began is durable when it returns. The disk itself is not asked: a kill leaves its cache alone, and what
 * counts as durable is what stands here. */
static int sync_it(int fd, int (*call)(int)) {
    char full[PATH_MAX], link[64];
    const char *path = watched(fd);
    enum kind kind = SYNC;
    if (!path && under_len) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, full, sizeof full - 1);
        full[len > 0 ? len : 0] = 0;
        if (strcmp(full, under) == 0 || is_below(full)) { path = full; kind = SYNC_FOLDER; }
    }
    if (!path) return call(fd);
    if (told && told->readonly) { errno = EROFS; return -1; }
    pthread_mutex_lock(&lock);
    uint64_t upto = number;
    pthread_mutex_unlock(&lock);
    if (told && told->slow > 0) usleep((useconds_t)told->slow);
    if (told && told->lie) return 0;
    pthread_mutex_lock(&lock);
    if (upto) note(kind, path, 0, 0, NULL, 0, NULL, 0, 0, upto);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return sync_it(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_it(fd, REAL(fdatasync)); }

/* ---- names ---- */

/* A name that is taken away keeps its file alive in the graveyard, so that it can be given back. */
int unlink(const char *path) {
    char full[PATH_MAX], grave[PATH_MAX + 32];
    if (!resolve(path, full)) return REAL(unlink)(path);
    if (told && told->readonly) { errno = EROFS; return -1; }
    pthread_mutex_lock(&lock);
    if (access(full, F_OK) == 0) {
        snprintf(grave, sizeof grave, "%s/%llu", graveyard, (unsigned long long)(number + 1));
        if (link(full, grave) != 0) abort();
        note(UNLINK, full, 0, 0, NULL, 0, NULL, 0, 0, 0);
    }
    int done = REAL(unlink)(path);
    pthread_mutex_unlock(&lock);
    return done;
}

/* The store renames nothing: the day it does, this has to learn it. */
int rename(const char *from, const char *to) {
    char full[PATH_MAX];
    if (resolve(from, full) || resolve(to, full)) abort();
    return REAL(rename)(from, to);
}

/* ---- the wall clock ---- */

int clock_gettime(clockid_t which, struct timespec *at) {
    int done = REAL(clock_gettime)(which, at);
    int64_t off = told ? told->clock : 0;
    if (done == 0 && off && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t all = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + off;
        at->tv_sec = all / 1000000000;
        at->tv_nsec = all % 1000000000;
    }
    return done;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    int done = REAL(gettimeofday)(at, zone);
    int64_t off = told ? told->clock : 0;
    if (done == 0 && off) {
        int64_t all = (int64_t)at->tv_sec * 1000000 + at->tv_usec + off / 1000;
        at->tv_sec = all / 1000000;
        at->tv_usec = all % 1000000;
    }
    return done;
}
